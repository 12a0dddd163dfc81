"""Fixtures: a headless scene, a small patient, a tiny network, and the module's real panel in Qt offscreen."""

import gc
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
import slicer.util
import slicer_stand_ins.installed
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

import APELocalizer
from APELocalizerLib.app.engine import Engine
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.base.progress import check_cancelled, report
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.scene.headless import add_volume, open_headless_scene
from made_up.torso import LANDMARKS, body_phantom

GUI = Path(APELocalizer.__file__).parent / "APELocalizerLib" / "gui"
slicer_stand_ins.use_properties(__name__, "APELocalizer", *(f"APELocalizerLib.gui.{p.stem}" for p in GUI.glob("*.py")))


def pytest_collection_modifyitems(items):
    """Tests, too, speak to widgets as code in Slicer does."""
    here = Path(__file__).parent
    slicer_stand_ins.use_properties(*{item.module.__name__ for item in items if item.path.parent == here})


class KnowingEmbedder:
    """Instead of a network: knows the torso, so that each place's embedding is its position in the standard torso.

    It works only while its gate is open, and remembers which scans it embedded.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.fail_with: Exception | None = None
        self.embedded: list[str] = []
        self.notes: tuple[str, ...] = ()
        self.threads: set[str] = set()
        self.warm_gate = threading.Event()
        self.warm_gate.set()
        self.warming = threading.Event()
        self.warmed = 0

    def warm_up(self) -> None:
        self.warming.set()
        self.warm_gate.wait(30)
        if self.fail_with:
            raise self.fail_with
        self.warmed += 1

    def __call__(self, model, settings) -> "KnowingEmbedder":
        self.model = model
        return self

    def embed(self, scan, spacing="standard", progress=None, cancelled=None) -> EmbeddingMap:
        self.threads.add(threading.current_thread().name)
        self.started.set()
        while not self.gate.wait(0.005):
            check_cancelled(cancelled)
            report(progress, 0.5, "Tile 5 of 10")
        check_cancelled(cancelled)
        if self.fail_with:
            raise self.fail_with
        self.embedded.append(scan.name)
        cells = np.array(scan.voxels.shape) // 2
        grid_to_ras = scan.ijk_to_ras @ np.diag([2.0, 2.0, 2.0, 1.0])
        places = apply_affine(grid_to_ras, np.indices(cells).reshape(3, -1).T).reshape(*cells, 3)
        body = scan.voxels[::2, ::2, ::2] > -950
        return EmbeddingMap(
            values=places.astype(np.float32),
            body=body,
            grid_to_ras=grid_to_ras,
            space=CoordinateSpace(self.model.id),
            spacing=spacing,
            field_of_view=scan.bounds(),
            scan_name=scan.name,
            scan_fingerprint=scan.fingerprint,
            notes=self.notes,
        )


class Panel:
    """The open panel, and what a user does with it."""

    def __init__(self, widget, embedder: KnowingEmbedder) -> None:
        self.widget, self.ui, self.session, self.embedder = widget, widget.ui, widget.session, embedder

    @property
    def parameters(self):
        return self.session.parameters

    def click(self, name: str) -> None:
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} is disabled"
        button.click()

    def wait(self, condition=None, seconds: float = 60.0) -> None:
        """Let Qt work until the condition holds; by default until no task runs."""
        condition = condition or (lambda: not self.session.runner.busy)
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            QApplication.processEvents()
            time.sleep(0.002)
        QApplication.processEvents()

    def learn(self, patient) -> None:
        """Learn the patient's clicks."""
        self.ui.supportSelector.setCurrentNode(patient.volume)
        self.ui.pointsSelector.setCurrentNode(patient.points)
        self.click("learnPointsButton")
        self.wait()

    def localize(self, volume) -> None:
        """Find the library on a scan."""
        self.ui.scanSelector.setCurrentNode(volume)
        self.click("localizeButton")
        self.wait()

    def rows(self) -> list[list[str]]:
        """Texts of the result table."""
        table = self.ui.resultTable
        return [[table.item(row, column).text() for column in range(6)] for row in range(table.rowCount)]


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
def tiny_model():
    """Loads an untrained network for every file name; the name is the model's."""
    import torch

    from APELocalizerLib.core.model.model import Model
    from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
    from APELocalizerLib.core.preparation.config import PreparationConfig

    def load(model: str) -> Model:
        torch.manual_seed(3)
        config = NetworkConfig(channels=(16, 24), depths=((1, 1), 1), layer_scale_init=0.5)
        state = {key: value * 2 for key, value in APENetwork(config).state_dict().items()}
        spacings = {"fine": ((6.0, 6.0, 6.0),), "standard": ((6.0, 6.0, 6.0),), "fast": ((9.0, 9.0, 9.0),)}
        return Model(f"tiny {model}", config, PreparationConfig.plain(), state, presets=spacings)

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
        return SimpleNamespace(id=f"knowing {model}", anchored=True, round_trip_threshold_mm=20.0)

    return Engine(load, embedder)


@pytest.fixture
def messages(monkeypatch):
    """Texts of the error messages that were shown, instead of message boxes."""
    shown = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *_, **__: shown.append(text))
    return shown


@pytest.fixture
def pytorch_extension(monkeypatch):
    """Slicer's PyTorch extension is installed."""
    monkeypatch.syspath_prepend(str(Path(slicer_stand_ins.__file__).parent / "extensions"))
    yield
    sys.modules.pop("PyTorchUtils", None)


@pytest.fixture
def open_panel(application, scene, messages, engine, embedder):
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
