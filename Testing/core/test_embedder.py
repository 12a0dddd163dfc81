"""From a scan to its map, end to end: every place in the map is the place in the patient."""

import functools

import numpy as np
import pytest
import torch

from APELocalizerLib.core import embedder as pipeline
from APELocalizerLib.core.base.errors import Cancelled, DeviceError, ModelError
from APELocalizerLib.core.embedder import Embedder, embed_scan, mean_of_passes
from APELocalizerLib.core.embedding.map_files import load_map, save_map
from APELocalizerLib.core.embedding.runner import InferenceSettings
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import localize
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.prepare import prepare_all
from made_up.grids import pli_grid, rotation
from made_up.models import tiny_model
from made_up.networks import LocalNetwork
from made_up.scans import ramp_scan

CPU = InferenceSettings(device="cpu", tile=(32, 32, 32))
LOW, HIGH = -110.0, 110.0
TWICE_RESAMPLED = PreparationConfig(base_spacing=(1.5, 1.5, 2.5), clahe_clip_limit=0.0)
"""As the published preparation without equalization, which would bend a ramp."""

GRIDS = {
    "as stored by most scanners": np.diag([-3.0, -3.0, 4.0, 1.0]),
    "coronal slices": np.array([[3.0, 0, 0, 0], [0, 0, 4.0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]]),
    "left-handed": np.diag([-3.0, 3.0, 4.0, 1.0]),
    "oblique": rotation(2, 15) @ rotation(0, -10) @ np.diag([-3.0, -3.0, 4.0, 1.0]),
    "thick slices": np.diag([2.5, -2.5, 6.0, 1.0]),
}
SHAPE = (44, 42, 34)


@pytest.fixture
def mean_network(monkeypatch):
    monkeypatch.setattr(Model, "build_network", lambda self: LocalNetwork())


def centered(affine: np.ndarray, shape: tuple = SHAPE) -> np.ndarray:
    affine = affine.copy()
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + [7.3, -4.1, 2.9]
    return affine


def inner_cells(body: np.ndarray) -> np.ndarray:
    """Cells (n, 3) whose neighbors within two cells are all body: no border, no air."""
    inner = np.pad(body, 2)
    for axis in range(3):
        inner = np.all([np.roll(inner, step, axis) for step in range(-2, 3)], axis=0)
    return np.argwhere(inner[2:-2, 2:-2, 2:-2])


@pytest.mark.parametrize("preparation", [PreparationConfig.plain(), TWICE_RESAMPLED], ids=["plain", "twice resampled"])
@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_knows_where_it_is_in_the_patient(mean_network, name, preparation):
    """HU rise along R, A or S; what a cell has read, turned back into mm, must be where the map says the cell is."""
    model = tiny_model(preparation=preparation, scale=(1.0, 1.0, 1.0))
    affine = centered(GRIDS[name])
    for axis in range(3):
        scan = ramp_scan(axis, LOW, HIGH, affine, SHAPE)
        made = embed_scan(scan, model, "standard", CPU)
        cells = inner_cells(made.body)
        assert len(cells) > 50
        hu = made.values[tuple(cells.T)][:, 0].astype(np.float64) * 1300.0 - 1000.0
        said = LOW + (hu + 450.0) / 700.0 * (HIGH - LOW)
        assert np.abs(said - made.to_ras(cells)[:, axis]).max() <= 0.01
        assert made.field_of_view == scan.bounds()


def test_fused_spacings_still_know_where_they_are(mean_network):
    model = tiny_model(scale=(1.0, 1.0, 1.0))
    scan = ramp_scan(2, LOW, HIGH, centered(GRIDS["thick slices"]), SHAPE)
    made = embed_scan(scan, model, "both", CPU)
    fine = embed_scan(scan, model, "standard", CPU)
    assert made.body.shape == fine.body.shape and made.spacing == "both"
    cells = inner_cells(made.body)
    said = LOW + (made.values[tuple(cells.T)][:, 0].astype(np.float64) * 1300.0 - 550.0) / 700.0 * (HIGH - LOW)
    error = np.abs(said - made.to_ras(cells)[:, 2])
    assert np.median(error) <= 0.01


def test_fusing_averages_and_keeps_every_note(mean_network):
    import dataclasses

    model = tiny_model(scale=(1.0, 1.0, 1.0))
    scan = ramp_scan(0, LOW, HIGH, centered(GRIDS["thick slices"]), SHAPE)
    made = embed_scan(scan, model, "standard", CPU)
    other = dataclasses.replace(made, values=made.values + np.float32([1, 2, 3]), notes=("one",))
    fused = mean_of_passes([dataclasses.replace(made, notes=("one", "two")), other])
    np.testing.assert_allclose(fused.values[made.body], made.values[made.body] + np.float32([0.5, 1, 1.5]), atol=1e-5)
    assert fused.notes == ("one", "two")
    assert mean_of_passes([made]) is made


def test_a_saved_map_localizes_like_the_map_itself(torso_map, tmp_path):
    library = learn_points(LandmarkLibrary(), torso_map, {"a": np.array([20.0, -10.0, 25.0])})
    save_map(torso_map, tmp_path / "map.nrrd")
    assert localize(load_map(tmp_path / "map.nrrd"), library) == localize(torso_map, library)


def test_the_same_scan_gives_the_same_map(torso, torso_map, tiny):
    again = Embedder(tiny, CPU).embed(torso, "fast")
    np.testing.assert_array_equal(again.values, torso_map.values)
    assert again.model_id == tiny.id
    assert again.scan_fingerprint == torso.fingerprint and again.scan_name == "torso"


def test_the_body_is_the_patient_and_not_the_air(torso, torso_map):
    assert torso_map.is_body(np.zeros((1, 3)))[0]
    corner = np.array(torso.bounds().minimum) + 4
    assert not torso_map.is_body(corner[None])[0]
    expected = np.pi * 170 * 110 * (36 * 7.0)
    found = torso_map.body.sum() * abs(np.linalg.det(torso_map.grid_to_ras[:3, :3]))
    assert found == pytest.approx(expected, rel=0.25)


# The embedder ------------------------------------------------------------------------------------------------------


def test_the_embedder_keeps_its_network(torso, monkeypatch):
    built = []
    monkeypatch.setattr(Model, "build_network", lambda self: built.append(1) or LocalNetwork())
    embedder = Embedder(tiny_model(), CPU)
    embedder.embed(torso, "fast")
    embedder.embed(torso, "both")
    assert built == [1]


def test_progress_rises_from_start_to_end(torso, tiny):
    told = []
    embed_scan(torso, tiny, "both", CPU, lambda fraction, text: told.append((fraction, text)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.1 and fractions[-1] == pytest.approx(1.0)
    assert all(text for _, text in told)


@pytest.mark.parametrize("after", [0, 3])
def test_cancel_anywhere(torso, tiny, after):
    asked = []
    with pytest.raises(Cancelled):
        embed_scan(torso, tiny, "both", CPU, cancelled=lambda: bool(asked.append(1)) or len(asked) > after)
    assert len(asked) == after + 1


def test_what_cannot_work_is_said_before_any_work(torso, tiny, monkeypatch):
    def prepare_must_not_run(*_, **__):
        raise AssertionError("the scan was prepared for nothing")

    monkeypatch.setattr("APELocalizerLib.core.embedder.prepare_all", prepare_must_not_run)
    with pytest.raises(ModelError, match='no spacing "finest"'):
        embed_scan(torso, tiny, "finest", CPU)
    with pytest.raises(DeviceError, match="not a device"):
        embed_scan(torso, tiny, "fast", InferenceSettings(device="gpu"))


def test_a_gpu_prepares_the_scan_itself_and_leaves_it_to_the_cpu_where_its_memory_is_too_small(torso, monkeypatch):
    """A stand-in for preparation says where it was asked to work; the GPU itself is not needed."""
    card, asked = torch.device("cuda", 0), []

    def on(device_wanted, scan, views, progress=None, cancelled=None, device=None):
        asked.append(device)
        if device != device_wanted:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return ["prepared"]

    for works in (card, None):
        asked.clear()
        monkeypatch.setattr(pipeline, "prepare_all", functools.partial(on, works))
        assert pipeline._prepared(torso, [], card, None, None) == ["prepared"]
        assert asked == ([card] if works else [card, None])
    asked.clear()
    pipeline._prepared(torso, [], torch.device("cpu"), None, None)
    assert asked == [None]


def test_a_scan_prepared_on_a_device_gives_the_same_map(torso, monkeypatch, tiny):
    expected = embed_scan(torso, tiny, "both", CPU)
    monkeypatch.setattr(pipeline, "_prepared", lambda scan, views, device, *_: prepare_all(scan, views, device="cpu"))
    made = embed_scan(torso, tiny, "both", CPU)
    np.testing.assert_array_equal(made.body, expected.body)
    np.testing.assert_allclose(made.values, expected.values, atol=1e-3)
    np.testing.assert_array_equal(made.coarse_ct.codes, expected.coarse_ct.codes)


def test_warming_up_builds_the_network_before_the_first_scan(torso, tiny, monkeypatch):
    embedder = Embedder(tiny, CPU)
    expected = embedder.embed(torso, "fast").values
    embedder = Embedder(tiny, CPU)
    embedder.warm_up()
    monkeypatch.setattr(Model, "build_network", None)
    np.testing.assert_array_equal(embedder.embed(torso, "fast").values, expected)


def test_the_grid_runs_posterior_left_inferior(torso_map):
    directions = torso_map.grid_to_ras[:3, :3] / np.linalg.norm(torso_map.grid_to_ras[:3, :3], axis=0)
    np.testing.assert_allclose(directions, pli_grid((2, 2, 2), (1, 1, 1))[:3, :3], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(torso_map.grid_to_ras[:3, :3], axis=0), [16, 16, 24], rtol=0.05)
