"""Maps kept between runs are the same to the last bit, and are made anew where anything else would be wrong."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.methods.map_store import MapStore


@pytest.fixture
def embed(world):
    """Two passes of a made-up scan, the second with other values and parts outside the body."""
    world.add("anna")
    calls = []

    def both(scan):
        calls.append(scan.name)
        first, _ = world.embed(scan)
        body = np.ones(first.body.shape, bool)
        body[:2] = False
        values = np.random.default_rng(0).normal(0, 100, first.values.shape).astype(np.float32)
        return mean_of_passes([first, dataclasses.replace(first, values=values, body=body)])

    both.calls = calls
    return both


def test_a_kept_map_is_the_same_and_is_not_made_again(world, embed, tmp_path):
    scan = world.scan(world.folder / "anna.nii.gz")
    made, seconds = MapStore(tmp_path).get(scan, "test@1", "standard", embed)
    kept, noted = MapStore(tmp_path).get(scan, "test@1", "standard", embed)
    assert embed.calls == ["anna"] and noted == seconds > 0
    assert np.array_equal(kept.values[kept.body], made.values[made.body]) and np.array_equal(kept.body, made.body)
    assert np.array_equal(kept.grid_to_ras, made.grid_to_ras) and len(kept.passes) == 2
    queries = np.array([[10.0, 20, 30], [-40, 0, 90]])
    assert np.array_equal(kept.passes[1].nearest(queries).points_ras, made.passes[1].nearest(queries).points_ras)


@pytest.mark.parametrize("change", ["model", "spacing", "scan", "code"])
def test_another_model_spacing_scan_or_code_makes_a_new_map(world, embed, tmp_path, monkeypatch, change):
    scan = world.scan(world.folder / "anna.nii.gz")
    MapStore(tmp_path).get(scan, "test@1", "standard", embed)
    if change == "scan":
        voxels = scan.voxels.copy()
        voxels[0, 0, 0] += 1
        scan = type(scan)(voxels, scan.ijk_to_ras, scan.name)
    if change == "code":
        monkeypatch.setattr("APELocalizerLib.methods.map_store._code", lambda: "other")
    MapStore(tmp_path).get(
        *(scan, "test@2" if change == "model" else "test@1", "fast" if change == "spacing" else "standard", embed)
    )
    assert len(embed.calls) == 2


def test_a_damaged_map_is_made_again(world, embed, tmp_path):
    scan = world.scan(world.folder / "anna.nii.gz")
    MapStore(tmp_path).get(scan, "test@1", "standard", embed)
    next(tmp_path.glob("*/pass1.nrrd")).write_bytes(b"damaged")
    MapStore(tmp_path).get(scan, "test@1", "standard", embed)
    assert len(embed.calls) == 2 and not list(tmp_path.glob("*.part"))


def test_without_a_folder_nothing_is_kept(world, embed, tmp_path):
    scan = world.scan(world.folder / "anna.nii.gz")
    MapStore().get(scan, "test@1", "standard", embed)
    MapStore().get(scan, "test@1", "standard", embed)
    assert len(embed.calls) == 2
