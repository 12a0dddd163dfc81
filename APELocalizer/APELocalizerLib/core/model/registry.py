"""Known models: what they are, under which license, and how to get them.

Nothing here uses the network except `fetch`, which is called only on a user's explicit request. Files are looked for
in this order: the folder named by the environment variable APELOCALIZER_MODELS, the user's cache, the extension.
"""

import hashlib
import json
import logging
import os
from pathlib import Path

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.base.files import write_text
from APELocalizerLib.core.base.locks import locked
from APELocalizerLib.core.base.progress import CancelCheck, Progress
from APELocalizerLib.core.model.download import CHUNK_BYTES, MOST_BYTES, OpenUrl, copy, download
from APELocalizerLib.core.model.known_models import RESOURCES, RegistryEntry, registry
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.model_files import read_model

MODELS_VARIABLE = "APELOCALIZER_MODELS"
"""Environment variable that names a folder of models."""

logger = logging.getLogger(__name__)


def entry(model_id: str) -> RegistryEntry:
    """The registry entry of that id; raises `ModelError` naming the known ones."""
    models = {model.id: model for model in registry()}
    if model_id in models:
        return models[model_id]
    known = ", ".join(models)
    raise ModelError(f'There is no model "{model_id}". Known models: {known}; or give a model file\'s path.')


def cache_folder() -> Path:
    """Folder for downloaded weights: outside Slicer, so that an update does not delete them.

    Raises `ModelError` for a user who has no home folder, as in some containers.
    """
    variable, within_home = ("LOCALAPPDATA", "AppData/Local") if os.name == "nt" else ("XDG_CACHE_HOME", ".cache")
    if os.environ.get(variable):
        return Path(os.environ[variable]) / "APELocalizer"
    try:
        return Path.home() / within_home / "APELocalizer"
    except RuntimeError as error:
        raise ModelError(
            f"There is no home folder to keep downloaded models in. Set HOME or {variable} to a folder, or put the "
            f"model into the folder named by {MODELS_VARIABLE}."
        ) from error


def find_file(model_id: str) -> Path | None:
    """Where the model's file lies on this computer, or None if it has not been downloaded."""
    known = entry(model_id)
    folders = [RESOURCES / "Models"]
    try:
        folders.insert(0, cache_folder())
    except ModelError:
        pass  # no home, so nothing was downloaded
    if os.environ.get(MODELS_VARIABLE):
        folders.insert(0, Path(os.environ[MODELS_VARIABLE]))
    files = [folder / known.file_name for folder in folders]
    return next((file for file in files if os.path.isfile(file)), None)  # also where a folder may not be read


def load_model(id_or_path: str | Path = "default") -> Model:
    """Model by registry id or file path. Never downloads.

    Raises `ModelError` if the weights are not there (saying how to get them), are damaged, or differ from the
    hash recorded for them.
    """
    if str(id_or_path) not in {model.id for model in registry()}:
        path = Path(id_or_path)
        if not path.exists() and path.suffix == "" and len(path.parts) == 1:
            entry(str(id_or_path))
        return read_model(path)
    known = entry(str(id_or_path))
    present = find_file(known.id)
    if present is None:
        way = "Install the extension again"
        if known.url is not None:
            way = f"Download them (ape-localizer models --fetch {known.id}, or the button in the panel)"
        raise ModelError(
            f"The weights of {known.title} are not on this computer. {way}, or put {known.file_name} into the folder "
            f"named by {MODELS_VARIABLE}."
        )
    _check_hash(present, known)
    model = read_model(present, trusted=known.sha256 is not None)
    _record(present, known)
    return model


def fetch(
    model_id: str,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
    offline_file: str | Path | None = None,
    open_url: OpenUrl | None = None,
) -> Path:
    """Download a model into the cache, or take `offline_file` instead; returns the file.

    Call it only when the user asked for it. An interrupted download resumes; the file appears under its name only when
    it is complete and has been read as a model. Its hash is recorded at the first download and checked ever after.
    Proxies are taken from the environment (HTTPS_PROXY). `open_url` is replaced in tests.
    """
    known = entry(model_id)
    if known.url is None:
        raise ModelError(f"{known.title} comes with the extension; there is nothing to download.")
    target = cache_folder() / known.file_name
    try:
        with locked(target, wait_s=0.0):
            return _fetch(known, target, progress, cancelled, offline_file, open_url)
    except TimeoutError as error:
        raise ModelError(
            f"Another program is downloading {known.title} right now. Wait until it has ended, then use the model."
        ) from error


def _fetch(
    known: RegistryEntry,
    target: Path,
    progress: Progress | None,
    cancelled: CancelCheck | None,
    offline_file: str | Path | None,
    open_url: OpenUrl | None,
) -> Path:
    """Fetch into `target`, which nobody else does meanwhile."""
    part = target.with_suffix(".part")
    if offline_file is not None:
        copy(Path(offline_file), part, progress, cancelled)
    else:
        download(str(known.url), part, progress, cancelled, open_url, known.size_bytes or MOST_BYTES)
    try:
        _check_hash(part, known)
        read_model(part, trusted=known.sha256 is not None)
    except ModelError:
        part.unlink()
        raise
    _record(part, known)
    os.replace(part, target)
    return target


def remove(model_id: str) -> None:
    """Delete a downloaded model from the cache (its recorded hash is kept).

    Raises `ModelError` for a model that comes with the extension.
    """
    known = entry(model_id)
    if known.url is None:
        raise ModelError(f"{known.title} comes with the extension and cannot be removed.")
    (cache_folder() / known.file_name).unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _record_path(known: RegistryEntry) -> Path:
    return cache_folder() / f"{known.file_name}.sha256.json"


def _record(path: Path, known: RegistryEntry) -> None:
    """Remember the hash of a model for which none is known, at its first use, and say so; it is checked ever after."""
    if known.sha256 is not None:
        return
    content = {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    try:
        record = _record_path(known)
        if record.exists():
            return
        write_text(record, json.dumps(content))
    except (ModelError, OSError):  # no home, or a full or locked one: the model serves all the same
        return
    logger.warning(
        "%s is used for the first time. Its SHA-256 %s was recorded in %s; from now on only this file is accepted.",
        known.title, content["sha256"], record.name,
    )  # fmt: skip


def _check_hash(path: Path, known: RegistryEntry) -> None:
    expected, record = known.sha256, None
    if expected is None:
        try:
            record = _record_path(known)
        except ModelError:
            return  # no home, so nothing was recorded
    if record is not None and os.path.isfile(record):
        try:
            expected = json.loads(record.read_text(encoding="utf-8"))["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"The recorded hash in {record} is damaged. Delete it and {path}.") from error
    if expected is not None and sha256_of(path) != expected:
        raise ModelError(
            f"The weights of {known.title} ({path}) differ from those recorded for it: the file is damaged or was "
            "replaced. Delete it and get it again."
        )
