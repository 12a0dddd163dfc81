"""What the module needs to run, and whether it is there: one `Light` each for PyTorch, the device and the weights.

PyTorch is installed by the PyTorch extension only, weights are downloaded by the registry's `fetch` only, and both only
when the user asked for it. Only `look_up` and the download load torch, and they run in the worker thread.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import slicer
from slicer.i18n import tr as _

from APELocalizerLib.core.base.errors import APELocalizerError
from APELocalizerLib.core.base.progress import CancelCheck, Progress
from APELocalizerLib.core.base.torch_version import SAFE_PYTORCH, loads_safely


@dataclass(frozen=True)
class Light:
    """One requirement. `ok` is None while it is not known yet; `action` is the text of the button that helps."""

    ok: bool | None
    text: str
    action: str = ""


@dataclass(frozen=True)
class Available:
    """What there is on this computer: (name, description) of the devices, (id, title) of the models."""

    devices: tuple[tuple[str, str], ...]
    models: tuple[tuple[str, str], ...]


def look_up(progress: Progress, cancelled: CancelCheck) -> Available:
    """Devices and models; loads torch, which takes seconds the first time."""
    from APELocalizerLib.core.base.device import describe_devices
    from APELocalizerLib.core.model.registry import registry

    return Available(tuple(describe_devices()), tuple((entry.id, entry.title) for entry in registry()))


def pytorch_light() -> Light:
    """Whether the PyTorch extension and PyTorch itself are installed."""
    if importlib.util.find_spec("PyTorchUtils") is None:
        return Light(False, _("The PyTorch extension is not installed."), _("Install extension"))
    if importlib.util.find_spec("torch") is None:
        return Light(False, _("PyTorch is not installed (200 MB, with GPU support up to 3 GB)."), _("Install PyTorch"))
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return Light(False, _("PyTorch is damaged. Install it again."), _("Install PyTorch"))
    if not loads_safely(version):  # but the model that comes with the extension is safe, and known by its hash
        text = _(
            "PyTorch {version} is old: it opens only the models that come with the extension or are downloaded by it. "
            "For model files of others, install version {least} or later with the module “PyTorch Utils”."
        )
        return Light(True, text.format(version=version, least=".".join(map(str, SAFE_PYTORCH))))
    return Light(True, _("PyTorch {version}").format(version=version))


def pytorch_problem() -> str:
    """What to do before PyTorch can be used; empty if it can."""
    light = pytorch_light()
    if light.ok:
        return ""
    return _("{problem} Open “Setup” and press “{button}”.").format(problem=light.text, button=light.action)


def install_pytorch() -> str:
    """Install the PyTorch extension or, by it, PyTorch; both ask before. Call it only when the user wants it.

    Returns what came of it where nothing was installed, else an empty text. Raises APELocalizerError in a Slicer that
    cannot install extensions.
    """
    try:
        import PyTorchUtils
    except ImportError:
        return _install_extension()
    logic = PyTorchUtils.PyTorchUtilsLogic()
    if not logic.torchInstalled():
        logic.installTorch(askConfirmation=True)
    return ""


def _install_extension() -> str:
    get_manager = getattr(getattr(slicer, "app", None), "extensionsManagerModel", None)
    manager = get_manager() if get_manager else None
    if manager is None:
        text = _("This Slicer cannot install extensions. Use a Slicer from download.slicer.org, and try again.")
        raise APELocalizerError(text)
    manager.interactive = True  # asks, and offers the restart that a new extension needs
    if manager.installExtensionFromServer("PyTorch"):
        return ""
    return _("The PyTorch extension was not installed. Check the internet connection, or try again later.")


def device_light(available: Available | None, chosen: str) -> Light:
    """The device that is used (`available` is None until PyTorch was asked)."""
    if available is None:
        return Light(None, _("Shown when PyTorch is ready."))
    texts = dict(available.devices)
    if chosen not in texts:
        return Light(
            False, _("The device “{name}” is not available on this computer. Choose another one.").format(name=chosen)
        )
    if all(name in ("auto", "cpu") for name in texts):
        return Light(True, _("{device}, slower than a GPU").format(device=texts[chosen]))
    return Light(True, texts[chosen])


def weights_light(available: Available | None, model: str) -> Light:
    """Whether the weights of a model (registry id or file) are on this computer."""
    if available is None:
        return Light(None, _("Shown when PyTorch is ready."))
    if model not in dict(available.models):
        there = Path(model).is_file()
        text = _("Model file {name}") if there else _("The model file {name} does not exist. Choose another one.")
        return Light(there, text.format(name=Path(model).name))
    from APELocalizerLib.core.model.registry import entry, find_file

    known = entry(model)
    if find_file(model) is not None:
        return Light(True, _("Weights are on this computer. License: {license}").format(license=known.license))
    if known.url is None:
        return Light(False, _("The weights that come with the extension are missing. Install the extension again."))
    return Light(False, _("The weights are not on this computer."), _("Download…"))


def download_question(model: str) -> str:
    """What the user agrees to before weights are downloaded."""
    from APELocalizerLib.core.model.registry import cache_folder, entry

    known = entry(model)
    return _(
        "Download the weights of {title} from {host} into {folder}?\n\nLicense: {license}\n\n"
        "No patient data leaves this computer."
    ).format(title=known.title, host=urlsplit(known.url).hostname, folder=cache_folder(), license=known.license)


def download(model: str, progress: Progress, cancelled: CancelCheck) -> Path:
    """Download the weights of a model."""
    from APELocalizerLib.core.model.registry import fetch

    return fetch(model, progress, cancelled)
