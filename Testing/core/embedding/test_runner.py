"""From a prepared scan to its map: tiles, memory, cancelling, with networks whose right answer is known."""

import dataclasses

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import Cancelled, MapError
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner, body_cells
from APELocalizerLib.core.model.model import Model
from made_up.grids import pli_grid
from made_up.models import plain_model, tiny_model
from made_up.networks import LocalNetwork
from made_up.scans import prepared_scan, random_image

SMALL_TILES = InferenceSettings(device="cpu", tile=(32, 32, 32), overlap=0.5, one_pass=False, batch_size=4)
ONE_PASS = InferenceSettings(device="cpu", one_pass=True)


class ConstantNetwork(LocalNetwork):
    def forward(self, image, visible=None):
        return torch.ones_like(super().forward(image, visible))


# Tiles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 36, 64), (50, 45, 70), (33, 47, 41), (20, 64, 9)])
@pytest.mark.parametrize("padding", ["mask", "edge"])
def test_every_cell_is_covered_and_blending_adds_up_to_one(using, shape, padding):
    using(ConstantNetwork())
    made = Runner(plain_model(padding=padding), SMALL_TILES).embed(prepared_scan(random_image(shape)))
    assert made.body.shape == tuple(-(-n // 4) for n in shape), "the remainder at the end is a cell too"
    np.testing.assert_allclose(made.values, 1.0, atol=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
def test_tiles_and_one_pass_agree_for_a_local_network(using, model, overlap):
    using(LocalNetwork())
    image = random_image((52, 64, 40))
    settings = InferenceSettings(device="cpu", tile=(32, 32, 32), overlap=overlap, one_pass=False, batch_size=3)
    tiled = Runner(model, settings).embed(prepared_scan(image))
    whole = Runner(model, ONE_PASS).embed(prepared_scan(image))
    expected = image.reshape(13, 4, 16, 4, 10, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(whole.values[..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(tiled.values, whole.values, atol=1e-6)


def test_a_scan_of_one_tile_gives_what_one_pass_gives(model):
    image = random_image((64, 64, 32))
    tiled = Runner(model, InferenceSettings(device="cpu", tile=(64, 64, 32), one_pass=False)).embed(
        prepared_scan(image)
    )
    whole = Runner(model, ONE_PASS).embed(prepared_scan(image))
    np.testing.assert_allclose(tiled.values, whole.values, atol=1e-5)
    assert whole.values.std() > 1e-3


def test_the_batch_size_does_not_change_the_result(model):
    image = prepared_scan(random_image((48, 60, 44)))
    maps = [Runner(model, InferenceSettings("cpu", (32, 32, 32), 0.5, False, batch)).embed(image) for batch in (1, 4)]
    np.testing.assert_allclose(maps[0].values, maps[1].values, atol=1e-5)


def test_the_model_decides_between_tiles_and_one_pass(using):
    network = using(LocalNetwork())
    image = prepared_scan(random_image((64, 64, 64)))
    unset = InferenceSettings(device="cpu", tile=(32, 32, 32), batch_size=1)
    Runner(plain_model(one_pass=True), unset).embed(image)
    assert network.seen == [(1, 1, 64, 64, 64)]
    network.seen.clear()
    Runner(plain_model(one_pass=False), unset).embed(image)
    assert len(network.seen) == 27 and set(network.seen) == {(1, 1, 32, 32, 32)}


@pytest.mark.parametrize("shape", [(3, 3, 3), (10, 40, 33), (32, 31, 100)])
@pytest.mark.parametrize("padding", ["mask", "edge"])
@pytest.mark.parametrize("settings", [SMALL_TILES, ONE_PASS], ids=["tiles", "one pass"])
def test_small_and_odd_scans_are_padded(shape, padding, settings):
    made = Runner(plain_model(padding=padding), settings).embed(prepared_scan(random_image(shape)))
    assert made.body.shape == tuple(-(-n // 4) for n in shape)
    assert np.isfinite(made.values).all()


def test_what_was_padded_is_hidden_from_the_network(using, model):
    """Zeros at the end would look like air; the mask says that nothing is known there."""
    masks = []

    class Watching(LocalNetwork):
        def forward(self, image, visible=None):
            masks.append((image[0, 0].clone(), visible[0].clone()))
            return super().forward(image, visible)

    using(Watching())
    Runner(model, SMALL_TILES).embed(prepared_scan(random_image((20, 32, 32)) + 0.5))
    image, visible = masks[0]
    assert torch.all(visible[:20] == 1) and torch.all(visible[20:] == 0)
    assert torch.all(image[:20] > 0) and torch.all(image[20:] == 0)


# Geometry and meaning ----------------------------------------------------------------------------------------------


def test_cells_lie_in_the_middle_of_their_voxels(using, model):
    """The network sees each voxel's own coordinate; every cell must say where it is."""
    using(LocalNetwork())
    shape, affine = (48, 40, 36), pli_grid((48, 40, 36), (2.0, 2.0, 3.0))
    positions = apply_affine(affine, np.indices(shape).reshape(3, -1).T).reshape(*shape, 3)
    for axis in range(3):
        image = (positions[..., axis] + 200.0) / 400.0
        for settings in (SMALL_TILES, ONE_PASS):
            made = Runner(model, settings).embed(prepared_scan(image))
            said = made.values[..., 0].ravel() * 400.0 - 200.0
            really = made.to_ras(np.indices(made.body.shape).reshape(3, -1).T)[:, axis]
            assert np.abs(said - really).max() < 0.001


def test_embeddings_are_scaled_and_shifted_per_channel(using):
    using(LocalNetwork())
    model = tiny_model(scale=(100.0, 200.0, 300.0), offset=(1.0, -2.0, 3.0))
    made = Runner(model, SMALL_TILES).embed(prepared_scan(np.full((32, 32, 32), 0.5)))
    np.testing.assert_allclose(made.values.reshape(-1, 3), np.tile([51.0, 98.0, 153.0], (512, 1)), rtol=1e-6)
    assert made.values.dtype == np.float32
    assert made.model_id == model.id


def test_the_map_says_whose_it_is(model):
    prepared = prepared_scan(random_image((32, 32, 32)))
    made = Runner(model, SMALL_TILES).embed(prepared, "fast")
    assert (made.spacing, made.scan_name, made.scan_fingerprint) == ("fast", "made-up scan", "fingerprint")
    assert made.field_of_view == prepared.field_of_view
    assert made.notes == ()


def test_cells_are_body_from_a_quarter_of_their_voxels():
    mask = np.zeros((8, 8, 10), bool)
    mask[:4, :4, 0] = True  # 16 of 64 voxels
    mask[4:, :4, 0] = True
    mask[7, 3, 0] = False  # 15 of 64
    mask[:4, :4, 9] = True
    cells = body_cells(mask, 4)
    assert cells.shape == (2, 2, 3)
    assert cells[0, 0, 0] and not cells[1, 0, 0] and not cells[0, 1, 0]
    assert cells[0, 0, 2], "the last, incomplete cell is judged by the voxels it has"


def test_a_scan_of_air_gives_no_map(model):
    with pytest.raises(MapError, match="no body"):
        Runner(model, SMALL_TILES).embed(prepared_scan(np.zeros((32, 32, 32)), mask=np.zeros((32, 32, 32), bool)))


def test_the_network_is_built_once(using, model, monkeypatch):
    built = []
    network = LocalNetwork()
    monkeypatch.setattr(Model, "build_network", lambda self: built.append(1) or network)
    runner = Runner(model, SMALL_TILES)
    for seed in range(3):
        runner.embed(prepared_scan(random_image((32, 32, 32), seed)))
    assert built == [1]


# Progress and cancelling -------------------------------------------------------------------------------------------


def test_progress_is_told_per_batch_of_tiles(using, model):
    using(LocalNetwork())
    fractions = []
    settings = InferenceSettings("cpu", (32, 32, 32), 0.5, False, 1)
    prepared = prepared_scan(random_image((64, 64, 32)))
    Runner(model, settings).embed(prepared, progress=lambda fraction, text: fractions.append(fraction))
    np.testing.assert_allclose(fractions, np.arange(1, 10) / 9)


@pytest.mark.parametrize("after", [0, 2])
def test_cancel_stops_between_tiles(using, model, after):
    network = using(LocalNetwork())
    settings = InferenceSettings("cpu", (32, 32, 32), 0.5, False, 1)
    with pytest.raises(Cancelled):
        Runner(model, settings).embed(
            prepared_scan(random_image((64, 64, 64))), cancelled=lambda: len(network.seen) >= after
        )
    assert len(network.seen) == after


def test_cancel_during_the_only_pass_gives_no_map(using, model):
    network = using(LocalNetwork())
    with pytest.raises(Cancelled):
        Runner(model, ONE_PASS).embed(
            prepared_scan(random_image((64, 64, 64))), cancelled=lambda: len(network.seen) >= 1
        )


def test_a_tensor_and_an_array_give_the_same_map(model):
    prepared = prepared_scan(random_image((50, 41, 37)), mask=random_image((50, 41, 37), 1) > 0.7)
    on_device = dataclasses.replace(
        prepared,
        image=torch.from_numpy(prepared.image).permute(2, 0, 1).contiguous().permute(1, 2, 0),
        body_mask=torch.from_numpy(prepared.body_mask),
    )
    for settings in (SMALL_TILES, ONE_PASS):
        expected, made = (Runner(model, settings).embed(each) for each in (prepared, on_device))
        np.testing.assert_array_equal(made.body, expected.body)
        np.testing.assert_allclose(made.values, expected.values, atol=2e-6)
