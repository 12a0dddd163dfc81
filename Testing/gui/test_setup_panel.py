"""The section Setup: status lights, devices, models, and nothing installed or downloaded without a click."""

import importlib.metadata
import importlib.util
import sys
from types import SimpleNamespace

import pytest
import qt
import slicer
import slicer.util

from APELocalizerLib.core.base.progress import check_cancelled
from APELocalizerLib.core.model import registry
from APELocalizerLib.gui.setup_panel import COLORS
from APELocalizerLib.scene import setup_status
from APELocalizerLib.scene.model_files import ModelFiles

GREEN, RED, GRAY = COLORS[True], COLORS[False], COLORS[None]


@pytest.fixture
def without(monkeypatch):
    """Pretends that a package is not installed."""

    def hide(name: str) -> None:
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda n, *rest: None if n == name else real(n, *rest))

    return hide


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """A computer without any downloaded weights."""
    monkeypatch.setattr(registry, "cache_folder", lambda: tmp_path)
    monkeypatch.delenv(registry.MODELS_VARIABLE, raising=False)


def test_without_the_pytorch_extension_the_panel_opens_and_says_how_to_get_it(open_panel, messages):
    panel = open_panel()
    assert RED in panel.ui.torchLight.text and "extension is not installed" in panel.ui.torchLabel.text
    assert panel.ui.torchButton.visible and panel.ui.torchButton.text == "Install extension"
    assert not panel.ui.setupSection.collapsed
    assert GRAY in panel.ui.deviceLight.text
    panel.click("localizeButton")
    assert len(messages) == 1 and "Install extension" in messages[0] and not panel.session.runner.busy


def test_without_pytorch_its_button_installs_it_by_the_extension(pytorch_extension, without, open_panel, monkeypatch):
    import PyTorchUtils

    calls = []
    monkeypatch.setattr(PyTorchUtils.PyTorchUtilsLogic, "torchInstalled", staticmethod(lambda: False))
    monkeypatch.setattr(
        PyTorchUtils.PyTorchUtilsLogic, "installTorch", lambda self, **options: calls.append(options), raising=False
    )
    without("torch")
    panel = open_panel()
    assert RED in panel.ui.torchLight.text and panel.ui.torchButton.text == "Install PyTorch"
    assert calls == [], "nothing is installed before the click"
    panel.click("torchButton")
    assert calls == [{"askConfirmation": True}]


def test_the_extension_is_asked_for_in_the_extensions_manager(open_panel, monkeypatch):
    asked = []
    manager = SimpleNamespace(
        interactive=False,
        updateExtensionsMetadataFromServer=lambda *_: None,
        installExtensionFromServer=lambda name: asked.append((name, manager.interactive)) or True,
    )
    panel = open_panel()
    monkeypatch.setattr(slicer, "app", SimpleNamespace(extensionsManagerModel=lambda: manager), raising=False)
    panel.click("torchButton")
    assert asked == [("PyTorch", True)]


def test_a_failing_installation_is_shown(open_panel, messages):
    panel = open_panel()
    panel.click("torchButton")  # there is no extensions manager outside Slicer
    assert len(messages) == 1 and RED in panel.ui.torchLight.text


def test_devices_and_models_are_listed_when_pytorch_is_there(panel):
    panel.ui.setupSection.collapsed = False
    panel.wait(lambda: not panel.session.runner.in_background_now)
    assert GREEN in panel.ui.torchLight.text and GREEN in panel.ui.deviceLight.text
    devices = [panel.ui.deviceComboBox.itemData(index) for index in range(panel.ui.deviceComboBox.count)]
    models = [panel.ui.modelComboBox.itemData(index) for index in range(panel.ui.modelComboBox.count)]
    assert devices[0] == "auto" and "cpu" in devices
    assert models == [entry.id for entry in registry.registry()]
    panel.ui.deviceComboBox.currentIndex = devices.index("cpu")
    assert panel.parameters.device == "cpu" and panel.session.run_settings().device == "cpu"


def test_buttons_that_are_not_needed_are_hidden_also_after_the_section_was_closed_and_opened(panel):
    section, button = panel.ui.setupSection, panel.ui.torchButton
    for collapsed in (True, False):
        section.collapsed = collapsed
    assert not button.visible and panel.ui.modelFileButton.visible


def test_a_device_of_another_computer_is_red_but_kept(panel):
    panel.parameters.device = "cuda:7"
    panel.wait(lambda: not panel.session.runner.in_background_now)
    assert RED in panel.ui.deviceLight.text and "cuda:7" in panel.ui.deviceLabel.text
    assert panel.ui.deviceComboBox.itemData(panel.ui.deviceComboBox.currentIndex) == "cuda:7"


def test_weights_that_are_not_there_are_downloaded_only_after_yes(no_weights, panel, monkeypatch):
    questions, fetched = [], []
    answers = iter([False, True])
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: questions.append(text) or next(answers))
    monkeypatch.setattr(registry, "fetch", lambda model, *_: fetched.append(model) or "/somewhere/ape.pt")
    panel.ui.setupSection.collapsed = False
    panel.parameters.model = "ape-published"
    panel.wait(lambda: not panel.session.runner.in_background_now)
    assert RED in panel.ui.weightsLight.text and panel.ui.weightsButton.visible
    panel.click("weightsButton")
    assert fetched == [] and "huggingface.co" in questions[0] and "License" in questions[0]
    panel.click("weightsButton")
    panel.wait()
    assert fetched == ["ape-published"] and "/somewhere/ape.pt" in panel.ui.statusLabel.text


def test_a_download_can_be_cancelled(no_weights, panel, monkeypatch, messages):
    def endless(model, progress, cancelled):
        while True:
            check_cancelled(cancelled)

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    monkeypatch.setattr(registry, "fetch", endless)
    panel.parameters.model = "ape-published"
    panel.wait(lambda: not panel.session.runner.in_background_now)
    panel.click("weightsButton")
    assert panel.ui.weightsButton.text == "Cancel" and not panel.ui.localizeButton.enabled
    panel.click("weightsButton")
    panel.wait()
    assert messages == [] and panel.ui.weightsButton.text == "Download…" and panel.ui.weightsButton.enabled


def test_a_model_file_can_be_chosen_and_is_kept_in_the_scene(panel, monkeypatch, tmp_path):
    file = tmp_path / "mine.pt"
    file.write_bytes(b"")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: str(file)))
    panel.click("modelFileButton")
    panel.wait(lambda: not panel.session.runner.in_background_now)
    assert panel.parameters.model == "mine.pt", "no path, which may name people"
    assert panel.session.run_settings().model == str(file) and GREEN in panel.ui.weightsLight.text
    assert panel.ui.modelComboBox.currentText == "mine.pt"
    file.unlink()
    panel.session.changed()
    assert RED in panel.ui.weightsLight.text and "mine.pt" in panel.ui.weightsLabel.text


def test_slicer_remembers_where_a_model_file_lies_and_scenes_do_not(monkeypatch, tmp_path):
    kept = {}
    settings = SimpleNamespace(setValue=kept.__setitem__, value=kept.get)
    monkeypatch.setattr(slicer, "app", SimpleNamespace(userSettings=lambda: settings), raising=False)
    file = tmp_path / "mine.pt"
    assert ModelFiles().add(file) == "mine.pt"
    later = ModelFiles()
    assert later.model("mine.pt") == str(file) and later.model("default") == "default"


def test_free_memory_lets_go_of_model_and_maps(panel, patient):
    panel.learn(patient)
    panel.click("freeMemoryButton")
    panel.embedder.embedded.clear()
    panel.learn(patient)
    assert panel.embedder.embedded == ["patient A"]


def test_pytorch_is_looked_up_without_loading_it(pytorch_extension, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing torch would now fail
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: object())
    assert setup_status.pytorch_light().ok


@pytest.mark.parametrize("version, old", [("2.2.2", True), ("2.5.1+cu121", True), ("2.6.0", False), ("2.13.0", False)])
def test_an_old_pytorch_works_and_it_is_said_what_it_does_not_open(pytorch_extension, monkeypatch, version, old):
    """On Macs with an Intel processor there is none newer than 2.2."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    light = setup_status.pytorch_light()
    assert light.ok and not setup_status.pytorch_problem()
    assert version in light.text and ("install version 2.6 or later" in light.text) is old
