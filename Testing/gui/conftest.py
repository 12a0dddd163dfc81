"""Fixtures: a headless scene, a small patient, a tiny network, and the module's real panel in Qt offscreen."""

import gc
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer
import slicer.util
import slicer_stand_ins.installed
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

import APELocalizer
from APELocalizerLib.app.engine import Engine
from APELocalizerLib.app.memory import Memory
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.scene.headless import add_volume, open_headless_scene
from made_up.embedders import KnowingEmbedder
from made_up.models import tiny_model
from made_up.panel import Panel
from made_up.scans import LANDMARKS, body_phantom

GUI = Path(APELocalizer.__file__).parent / "APELocalizerLib" / "gui"
PANELS = [f"APELocalizerLib.gui.{path.stem}" for path in GUI.glob("*.py")]
slicer_stand_ins.use_properties(__name__, "made_up.panel", "APELocalizer", *PANELS)


def pytest_collection_modifyitems(items):
    """Tests, too, speak to widgets as code in Slicer does."""
    here = Path(__file__).parent
    slicer_stand_ins.use_properties(*{item.module.__name__ for item in items if item.path.parent == here})


SPACINGS = {"standard": ((6.0, 6.0, 6.0),), "fast": ((9.0, 9.0, 9.0),)}
"""Spacing presets of the model that knows the torso."""


@pytest.fixture(scope="session")
def application():
    """The Qt application."""
    return QApplication.instance() or QApplication([])


@pytest.fixture
def scene():
    """An empty scene as `slicer.mrmlScene`."""
    with open_headless_scene() as headless:
        yield headless.scene


@pytest.fixture(scope="session")
def phantom():
    """A torso at 6 mm."""
    return body_phantom(shape=(66, 46, 40), spacing=(6.0, 6.0, 6.0))


@pytest.fixture
def add_patient(scene, phantom):
    """Adds a CT with clicked landmarks to the scene."""

    def add(name: str, landmarks=("carina", "heart", "liver", "spleen")):
        volume = add_volume(phantom.voxels, phantom.ijk_to_ras, name)
        points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", f"{name} clicks")
        for landmark in landmarks:
            points.AddControlPointWorld(LANDMARKS[landmark], landmark)
        return SimpleNamespace(volume=volume, points=points)

    return add


@pytest.fixture
def patient(add_patient):
    return add_patient("patient A")


@pytest.fixture(scope="session")
def load_tiny():
    """Loads an untrained network for every file name; the name is the model's."""
    spacings = {"fine": ((6.0, 6.0, 6.0),), "standard": ((6.0, 6.0, 6.0),), "fast": ((9.0, 9.0, 9.0),)}

    def load(model: str) -> Model:
        return tiny_model(seed=3, name=f"tiny {model}", presets=spacings)

    return load


@pytest.fixture
def embedder():
    """What embeds scans in place of a network."""
    embedder = KnowingEmbedder()
    yield embedder
    embedder.gate.set()


@pytest.fixture
def engine(embedder):
    """An engine for which every model is there and knows the torso."""

    def load(model: str) -> SimpleNamespace:
        return SimpleNamespace(id=f"knowing {model}", anchored=True, round_trip_threshold_mm=20.0, presets=SPACINGS)

    return Engine(reference=None, memory=Memory(load, embedder))


@pytest.fixture
def messages(monkeypatch):
    """Texts of the error messages that were shown, instead of message boxes."""
    shown = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *_, **__: shown.append(text))
    return shown


@pytest.fixture
def questions(monkeypatch):
    """Texts of the questions that were asked; the answer is yes unless a test appends another one to `answers`."""
    asked = SimpleNamespace(texts=[], answers=[])

    def ask(text, *_, **__):
        asked.texts.append(text)
        return asked.answers.pop(0) if asked.answers else True

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", ask)
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", ask)
    return asked


@pytest.fixture
def pytorch_extension(monkeypatch):
    """Slicer's PyTorch extension is installed."""
    monkeypatch.syspath_prepend(str(Path(slicer_stand_ins.__file__).parent / "extensions"))
    yield
    sys.modules.pop("PyTorchUtils", None)


@pytest.fixture
def open_panel(application, scene, messages, questions, engine, embedder):
    """Opens the module's panel in the scene, as Slicer does."""
    opened = []

    def open_it() -> Panel:
        parent = QWidget()
        QVBoxLayout(parent)
        parent.isEntered = True
        widget = APELocalizer.APELocalizerWidget(parent, APELocalizer.APELocalizerLogic(engine))
        widget.setup()
        parent.resize(420, 1250)
        parent.show()
        opened.append(widget)
        panel = Panel(widget, embedder)
        panel.wait(lambda: not panel.session.runner.in_background_now)
        return panel

    yield open_it
    embedder.gate.set()
    for widget in opened:
        widget.cleanup()
        widget.parent.close()
    opened.clear()
    gc.collect()


@pytest.fixture
def panel(pytorch_extension, open_panel):
    """The open panel, ready to run."""
    return open_panel()


@pytest.fixture
def node_ids(scene):
    """Ids of all nodes in the scene now."""
    return lambda: {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}
