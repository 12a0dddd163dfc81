"""The engine: one act for panel, console, command line and notebooks, on an embedder that is never wrong."""

import os
import pickle
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from APELocalizerLib.app.engine import Engine, EngineSettings
from APELocalizerLib.app.memory import MAPS_KEPT, Memory
from APELocalizerLib.core.base.errors import (
    Cancelled,
    CorrespondenceError,
    LearningError,
    LibraryError,
    LocalizationError,
)
from APELocalizerLib.core.library import built_in
from APELocalizerLib.core.library.files import load_library, save_library
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.library.marks import Marks
from made_up.embedders import KnowingEmbedder
from made_up.files import POINTS, SHAPE, SPACING, small_torso
from made_up.paths import MODULE
from made_up.scans import body_phantom, reoriented

ORGANS = {1: "right lung", 2: "everything"}


@pytest.fixture
def embedder() -> KnowingEmbedder:
    """What the engine embeds with."""
    return KnowingEmbedder()


@pytest.fixture
def engine(embedder) -> Engine:
    """An engine whose models are only names."""

    def load(name: str) -> SimpleNamespace:
        return SimpleNamespace(id=f"knowing {name}", anchored=True, round_trip_threshold_mm=20.0)

    return Engine(memory=Memory(load, embedder))


@pytest.fixture
def torso():
    """A scan of a torso."""
    return small_torso()


@pytest.fixture
def damaged_library(tmp_path, monkeypatch):
    """As if the built-in library's file were damaged."""
    path = tmp_path / "damaged.json"
    path.write_text("no library", encoding="utf-8")
    monkeypatch.setattr(built_in, "built_in_library_path", lambda: path)
    return path


def test_landmarks_of_one_scan_are_found_where_they_are_on_another(engine, torso):
    learned = engine.learn(torso, Marks(points=POINTS))
    other = reoriented(small_torso("another"), (2, 0, 1), (True, False, True))
    located = engine.localize(other, learned.library)
    assert [point.name for point in located.points] == list(POINTS)
    for point in located.points:
        assert point.found and np.linalg.norm(np.subtract(point.position_ras, POINTS[point.name])) < 2


def test_a_scan_and_its_map_give_the_same_answer(engine, embedder, torso):
    torso_map = engine.map(torso)
    library = engine.learn(torso_map, Marks(points=POINTS)).library
    assert embedder.embedded == ["torso"], "the map was to be used as it is"
    from_map, from_scan = engine.localize(torso_map, library), engine.localize(torso, library)
    assert [point.position_ras for point in from_map.points] == [point.position_ras for point in from_scan.points]


def test_places_of_two_scans_correspond(engine, embedder, torso):
    other = reoriented(small_torso("another"), (2, 0, 1), (True, False, True))
    correspondence = engine.correspond(torso, engine.map(other))
    assert len(embedder.embedded) == 2, "a map is not computed again"
    points = np.array([POINTS["bone"], (0.0, 0.0, -40.0)])
    carried = correspondence.to_second(points)
    assert carried.in_view.all() and carried.positions_ras == pytest.approx(points, abs=1)
    assert correspondence.to_first(carried.positions_ras).positions_ras == pytest.approx(points, abs=0.05)
    with pytest.raises(CorrespondenceError, match="given twice"):
        engine.correspond(torso, torso)


def test_an_organ_cut_by_the_field_of_view_is_left_out_and_named(engine, torso):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[...] = 2  # up to the borders of the scan, into the air
    labels[40:50, 20:30, 18:28] = 1
    learned = engine.learn(torso, Marks(labels=(labels, torso.ijk_to_ras), label_names=ORGANS))
    assert learned.left_out == ("everything",)
    assert [organ.name for organ in learned.library.organs] == ["right lung"]


def test_learning_from_no_marks_is_refused(engine, torso):
    with pytest.raises(LearningError, match="nothing to learn"):
        engine.learn(torso, Marks())


def test_learning_leaves_the_given_library_as_it_is(engine, torso):
    first = engine.learn(torso, Marks(points={"bone": POINTS["bone"]})).library
    second = engine.learn(body_phantom(SHAPE, SPACING, scale=1.1), Marks(points=POINTS), first).library
    assert (first.names, second.names) == (("bone",), tuple(POINTS))
    assert len(second.landmarks[0].shots) == 2


def test_without_coarse_ct_the_library_keeps_no_copy_of_the_scan(engine, tmp_path):
    from APELocalizerLib.core.model.model_files import save_model
    from made_up.models import tiny_model

    save_model(tiny_model(presets={"standard": ((5.0, 5.0, 6.0),)}), tmp_path / "tiny.pt")
    real, scan = Engine(tmp_path / "tiny.pt", "cpu", reference=None), small_torso()
    scan_map = real.map(scan)
    kept = [
        real.learn(scan_map, Marks(points=POINTS), coarse_ct=coarse_ct).library.supports[0].map.coarse_ct
        for coarse_ct in (True, False)
    ]
    assert kept[0] is not None and kept[1] is None


def test_a_map_with_a_key_is_computed_once_for_each_scan_and_spacing(engine, embedder, torso):
    first = engine.map(torso, key="seen at 9:00")
    assert engine.map(torso, key="seen at 9:00") is first and engine.recall("seen at 9:00") is first
    assert engine.map(torso, "fast", key="seen at 9:00") is not first
    engine.map(torso, key="changed at 9:05")
    assert len(embedder.embedded) == 3


def test_a_map_without_a_key_is_not_remembered(engine, embedder, torso):
    engine.map(torso)
    engine.map(torso)
    assert len(embedder.embedded) == 2


def test_only_recent_maps_are_kept(engine, torso):
    first = engine.map(torso, key=0)
    for key in range(1, MAPS_KEPT):
        engine.map(torso, key=key)
    assert engine.recall(0) is first  # and so it is the latest
    engine.map(torso, key="one more")
    assert engine.recall(0) is first and engine.recall(1) is None


def test_another_device_uses_the_map_at_hand_but_another_model_does_not(engine, embedder, torso):
    first = engine.map(torso, key="torso")
    assert engine.using(device="cpu").map(torso, key="torso") is first
    assert engine.using(model="other").map(torso, key="torso").space != first.space
    assert len(embedder.embedded) == 2


def test_a_reference_that_was_replaced_under_its_name_is_aligned_with_anew(engine, embedder, torso, tmp_path):
    file = tmp_path / "reference.json"
    aligned = engine.using(reference=file)
    maps = []
    for content in ("one model", "another model"):
        save_library(LandmarkLibrary(content), file)
        os.utime(file, ns=(len(maps), len(maps)))  # another time of change, however fast the test runs
        maps.append(aligned.map(torso, key="torso"))
        assert aligned.recall("torso") is maps[-1]
    assert maps[0] is not maps[1]
    file.unlink()
    assert aligned.recall("torso") is None


def test_released_memory_holds_no_map(engine, torso):
    engine.map(torso, key="torso")
    engine.release()
    assert engine.recall("torso") is None


def test_a_cancelled_map_is_not_remembered(engine, torso):
    with pytest.raises(Cancelled):
        engine.map(torso, key="torso", cancelled=lambda: True)
    assert engine.recall("torso") is None


@pytest.mark.parametrize(
    ("library", "message"),
    [(LandmarkLibrary("another model"), "was learned with the model another model"), (LandmarkLibrary(), "empty")],
)
def test_what_cannot_be_localized_is_refused(engine, torso, library, message):
    with pytest.raises(LocalizationError, match=message):
        engine.localize(torso, library)


def test_a_library_of_another_model_is_refused_before_the_scan_is_read(engine, embedder, torso):
    with pytest.raises(LocalizationError):
        engine.localize(torso, LandmarkLibrary("another model"))
    assert embedder.embedded == []


def test_a_damaged_built_in_library_is_reported_and_stops_nothing(engine, torso, damaged_library):
    engine.warm_up()
    library = engine.learn(torso, Marks(points=POINTS)).library
    assert all(point.found for point in engine.localize(torso, library).points)
    notes = engine.map(torso).notes
    assert notes[-1].startswith("Coordinates are not aligned: ") and damaged_library.name in notes[-1]


def test_a_damaged_library_that_was_asked_for_stops_at_once(engine, embedder, torso, damaged_library):
    with pytest.raises(LibraryError, match=damaged_library.name):
        engine.using(reference=str(damaged_library)).map(torso)
    assert embedder.embedded == []


def test_several_threads_read_the_built_in_library_once(monkeypatch):
    read = []

    def reading(path):
        read.append(path)
        return load_library(path)

    monkeypatch.setattr("APELocalizerLib.core.library.files.load_library", reading)
    memory, libraries = Memory(), []
    threads = [threading.Thread(target=lambda: libraries.append(memory.library("built-in"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [built_in.built_in_library_path()]
    assert len(libraries) == 4 and all(library is libraries[0] for library in libraries)


def test_settings_travel_to_other_processes():
    settings = Engine("default", "cpu", None).settings
    assert pickle.loads(pickle.dumps(settings)) == settings == EngineSettings(device="cpu", reference=None)


def test_making_an_engine_loads_nothing_heavy():
    code = (
        "import sys; from APELocalizerLib import Engine; Engine();"
        "print([name for name in ('torch', 'numpy', 'scipy', 'SimpleITK', 'vtk', 'slicer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=MODULE, check=True)
    assert done.stdout.strip() == "[]"
