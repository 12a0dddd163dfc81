"""The panel gets ready in the background: when, for what, and that nothing of it is felt."""

import subprocess
import sys
import threading
from pathlib import Path

import slicer_stand_ins

import APELocalizer
from APELocalizerLib.core.base.errors import DeviceError
from APELocalizerLib.core.base.progress import check_cancelled
from APELocalizerLib.core.localization import localize as localization
from APELocalizerLib.scene import setup_status

GUI = Path(APELocalizer.__file__).parent / "APELocalizerLib" / "gui"

PROGRAM = """
import sys, time
sys.path[:0] = {path!r}
import slicer_stand_ins.installed
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget
import APELocalizer
slicer_stand_ins.use_properties("APELocalizer", *{modules!r})
from made_up.scans import body_phantom
from APELocalizerLib.scene.headless import add_volume, open_headless_scene

application = QApplication([])
with open_headless_scene():
    body = body_phantom(shape=(33, 23, 20), spacing=(12.0, 12.0, 12.0))
    volume = add_volume(body.voxels, body.ijk_to_ras, "patient")
    parent = QWidget()
    QVBoxLayout(parent)
    parent.isEntered = True
    widget = APELocalizer.APELocalizerWidget(parent)
    widget.setup()
    assert widget.session.parameters.scan is None
    {choice}
    end = time.monotonic() + 60
    while widget.session.runner.in_background_now and time.monotonic() < end:
        QApplication.processEvents()
    print("loaded" if "torch" in sys.modules else "not loaded")
    widget.cleanup()
"""


def panel_program(choice: str = "") -> str:
    """Opens the panel in a new process, beside a loaded scan, chooses something, and says whether PyTorch is loaded."""
    path = [str(Path(slicer_stand_ins.__file__).parent / "extensions"), *sys.path]
    modules = [f"APELocalizerLib.gui.{file.stem}" for file in GUI.glob("*.py")]
    program = PROGRAM.format(path=path, modules=modules, choice=choice)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_opening_the_panel_beside_a_loaded_scan_loads_nothing():
    assert panel_program() == "not loaded"


def test_choosing_a_scan_loads_pytorch_in_the_background():
    assert panel_program("widget.ui.supportSelector.setCurrentNode(volume)") == "loaded"


def settle(panel) -> None:
    """Wait for what goes on in the background."""
    panel.wait(lambda: not panel.session.runner.in_background_now)


def test_a_chosen_scan_makes_the_model_ready_once(panel, add_patient):
    for name in ("patient A", "patient B"):
        panel.ui.scanSelector.setCurrentNode(add_patient(name).volume)
        settle(panel)
    assert panel.embedder.warmed == 1


def test_another_device_is_made_ready_too(panel, patient):
    panel.ui.scanSelector.setCurrentNode(patient.volume)
    settle(panel)
    panel.parameters.device = "cpu"
    settle(panel)
    assert panel.embedder.warmed == 2


def test_a_learned_library_is_made_ready_for_the_next_scan(panel, patient, monkeypatch):
    ready = []
    monkeypatch.setattr(localization, "get_ready", lambda library, *_: ready.append(library))
    panel.learn(patient)
    settle(panel)
    assert any(library is panel.session.library for library in ready)


def test_of_several_changes_only_the_last_is_made_ready(panel, patient, monkeypatch):
    panel.learn(patient)
    settle(panel)
    libraries = [panel.session.library.without(name) for name in panel.session.library.names[:3]]
    ready = []
    monkeypatch.setattr(localization, "get_ready", lambda library, *_: ready.append(library))
    monkeypatch.setattr(localization, "localize", lambda *_, **__: None)
    panel.embedder.warm_gate.clear()
    for library in libraries:
        panel.session.set_library(library, "")
    panel.embedder.warm_gate.set()
    settle(panel)
    assert len(ready) == 1 and ready[0] is libraries[-1]


def test_a_run_stops_the_preparations_and_does_not_wait_for_them(panel, patient, monkeypatch):
    panel.learn(patient)
    settle(panel)
    began, stopped = threading.Event(), threading.Event()

    def endless(library, cancelled):
        began.set()
        try:
            while True:
                check_cancelled(cancelled)
        finally:
            stopped.set()

    with monkeypatch.context() as patch:
        patch.setattr(localization, "get_ready", endless)
        panel.session.set_library(panel.session.library.without("heart"), "")
        panel.wait(began.is_set)
    panel.localize(patient.volume)
    assert stopped.is_set() and len(panel.rows()) == 3


def test_memory_freed_while_getting_ready_stays_free_until_the_next_choice(panel, patient):
    panel.embedder.warm_gate.clear()
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    panel.wait(panel.embedder.warming.is_set)
    panel.click("freeMemoryButton")
    panel.embedder.warm_gate.set()
    settle(panel)
    assert panel.session.logic.engine._memory._warm is None and "Memory was freed" in panel.ui.statusLabel.text
    panel.ui.pointsSelector.setCurrentNode(patient.points)
    settle(panel)
    assert panel.embedder.warmed == 2


def test_a_failed_look_for_devices_is_told_once(panel, add_patient, messages, monkeypatch):
    def broken(progress, cancelled):
        raise DeviceError("PyTorch is broken.")

    monkeypatch.setattr(setup_status, "look_up", broken)
    for name in ("patient A", "patient B"):
        panel.ui.scanSelector.setCurrentNode(add_patient(name).volume)
        settle(panel)
    assert len(messages) == 1 and "PyTorch is broken." in messages[0]


def test_what_goes_wrong_while_getting_ready_is_told_by_the_run_alone(panel, patient, messages):
    panel.embedder.fail_with = ValueError("no such network")
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    settle(panel)
    assert messages == []
    panel.ui.pointsSelector.setCurrentNode(patient.points)
    panel.click("learnPointsButton")
    panel.wait()
    assert len(messages) == 1 and "no such network" in messages[0]


def test_without_pytorch_nothing_is_tried(open_panel, patient, messages):
    panel = open_panel()
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    settle(panel)
    assert panel.embedder.warmed == 0 and messages == []
