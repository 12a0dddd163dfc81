"""Preparation equals the published pipeline, keeps every position, and does not depend on how a scan is stored."""

import dataclasses
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import Cancelled, PreparationError
from APELocalizerLib.core.base.geometry import apply_affine, spacing_of
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.prepare import prepare
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import grid_to_ras
from made_up.scans import body_phantom, phantom_hu, phantom_landmarks, reoriented

STANDARD = (2.0, 2.0, 3.0)
NO_EQUALIZATION = {
    "plain": PreparationConfig(None, (-1000, 300), 0.0, True, -2000),
    "published": PreparationConfig((1.0, 1.0, 1.5), (-1000, 300), 0.0, False, -2000),
    "antialiased base": PreparationConfig((1.5, 1.5, 2.0), (-1000, 300), 0.0, True, -2000),
    "locked": dataclasses.replace(PreparationConfig.on_fixed_lattice(), body_threshold=-2000),
}
GRIDS = {
    "fine": ((90, 80, 60), (0.8, 0.7, 1.0), np.eye(3)),
    "thick slices": ((70, 60, 12), (0.9, 1.1, 5.0), np.diag([-1.0, -1.0, 1.0])),
    "slightly turned": ((60, 50, 40), (1.0, 1.0, 2.0), np.array([[1, -0.006, 0], [0.006, 1, 0], [0, 0, 1.0]])),
    "coarse": ((30, 25, 20), (5.0, 4.0, 7.0), np.diag([1.0, -1.0, -1.0])),
}


def well_inside(points, scan: Scan):
    """Which points lie between the scan's outermost voxel centers and 10 mm or more from its end slices: a locked grid
    repeats the last voxel beyond them, and leaves the end slices out."""
    index = apply_affine(np.linalg.inv(scan.ijk_to_ras), points)
    ends = np.array([0, 0, 10 / scan.spacing[2] + 1])
    return np.all((index >= ends - 1e-6) & (index <= np.array(scan.voxels.shape) - 1 - ends + 1e-6), axis=1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.5), STANDARD, (4.0, 4.0, 6.0)])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("config", NO_EQUALIZATION)
def test_every_grid_position_maps_back_within_a_hundredth_of_a_millimeter(config, grid, spacing):
    """The scan's values are a position along one world axis; so must be the prepared values, read through
    grid_to_ras."""
    shape, voxel, rotation = GRIDS[grid]
    affine = grid_to_ras(shape, voxel, (30, -40, 500), rotation)
    points = apply_affine(affine, np.indices(shape).reshape(3, -1).T) - [30, -40, 500]
    hu_per_mm = 6.0
    for axis in range(3):
        scan = Scan((points[:, axis] * hu_per_mm - 350).reshape(shape).astype(np.float32), affine)
        prepared = prepare(scan, NO_EQUALIZATION[config], spacing)
        found = (prepared.image.astype(float) * 1300 - 1000 + 350) / hu_per_mm
        world = apply_affine(prepared.grid_to_ras, np.indices(prepared.image.shape).reshape(3, -1).T) - [30, -40, 500]
        assert prepared.image.min() > 0 and prepared.image.max() < 1
        inside = well_inside(world + [30, -40, 500], scan) if config == "locked" else np.ones(len(world), bool)
        assert inside.sum() > 100
        assert np.abs(found.ravel() - world[:, axis])[inside].max() < 0.01


def test_plain_spacing_is_exact():
    prepared = prepare(body_phantom((80, 56, 48), (4.7, 4.9, 5.3)), PreparationConfig.plain(), STANDARD)
    assert np.allclose(spacing_of(prepared.grid_to_ras), STANDARD, atol=1e-9)


def test_plain_preparation_covers_the_body_to_the_ends_of_the_scan():
    scan = body_phantom((80, 56, 47), (5, 5, 5))
    prepared = prepare(scan, PreparationConfig.plain(), STANDARD)
    feet = apply_affine(prepared.grid_to_ras, [[0, 0, prepared.image.shape[2] - 1]])[0, 2]
    head = apply_affine(prepared.grid_to_ras, [[0, 0, 0]])[0, 2]
    assert abs(head - 115) <= 1.5 and abs(feet + 115) <= 1.5
    assert prepared.field_of_view == scan.bounds()


@pytest.mark.parametrize(
    "config",
    [PreparationConfig.plain(), PreparationConfig.on_fixed_lattice(), PreparationConfig((3.0, 3.0, 4.0))],
    ids=["plain", "locked", "equalized on a base grid"],
)
def test_all_48_stored_orientations_give_identical_results(config):
    scan = body_phantom((40, 30, 20), (9, 8, 11))
    expected = prepare(scan, config, (4.0, 4.0, 6.0))
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            prepared = prepare(reoriented(scan, order, flips), config, (4.0, 4.0, 6.0))
            assert np.array_equal(prepared.image, expected.image)
            assert np.array_equal(prepared.body_mask, expected.body_mask)
            assert np.allclose(prepared.grid_to_ras, expected.grid_to_ras, atol=1e-9)


@pytest.mark.parametrize(
    "axes",
    [
        np.array([[np.cos(0.26), -np.sin(0.26), 0], [np.sin(0.26), np.cos(0.26), 0], [0, 0, 1]]),
        np.array([[-1.0, 0, 0], [0, -1, 0.27], [0, 0, 1]]),
    ],
    ids=["oblique 15 degrees", "gantry tilt"],
)
def test_oblique_and_tilted_scans_show_the_same_anatomy_at_the_same_place(axes):
    shape = (110, 90, 70)
    affine = grid_to_ras(shape, (4, 4, 4), rotation=axes)
    prepared = prepare(body_phantom(shape, ijk_to_ras=affine, noise=0), PreparationConfig.plain(), STANDARD)
    points = np.array([p for name, p in phantom_landmarks().items() if name not in ("carina", "right dome")])
    index = np.round(apply_affine(np.linalg.inv(prepared.grid_to_ras), points)).astype(int)
    expected = np.clip((phantom_hu(points) + 1000) / 1300, 0, 1)
    assert np.allclose(prepared.image[tuple(index.T)], expected, atol=0.01)
    assert prepared.body_mask[tuple(index.T)].all()


def test_air_only_and_wrong_spacings_get_clear_errors():
    voxels = np.random.default_rng(0).integers(-1024, -900, (20, 20, 20)).astype(np.int16)
    air = Scan(voxels, np.diag([5.0, 5, 5, 1]), "Air")
    for config in (PreparationConfig.plain(), PreparationConfig.published()):
        with pytest.raises(PreparationError, match="No body was found in “Air”"):
            prepare(air, config, STANDARD)
    for spacing in ((0, 2, 3), (2, 2), (2, 2, float("nan")), (2, 2, 1000)):
        with pytest.raises(PreparationError, match="spacing"):
            prepare(body_phantom((30, 20, 10), (12, 12, 20)), PreparationConfig.plain(), spacing)


def test_configurations_survive_json_and_unknown_settings_are_refused():
    import json

    for config in (PreparationConfig.published(), PreparationConfig.plain(), PreparationConfig.on_fixed_lattice()):
        assert PreparationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(PreparationError, match="bias_field"):
        PreparationConfig.from_dict({"bias_field": 1})
    with pytest.raises(PreparationError, match="window"):
        PreparationConfig(window=(300, -1000))


@pytest.mark.parametrize("config", [PreparationConfig.plain(), PreparationConfig.published()], ids=repr)
def test_progress_rises_to_one_and_cancelling_stops(config):
    scan = body_phantom((40, 30, 30), (9, 8, 8))
    seen = []
    prepare(scan, config, STANDARD, progress=lambda fraction, text: seen.append(fraction))
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 1 and len(seen) > 5
    asked = itertools.count()
    with pytest.raises(Cancelled):
        prepare(scan, config, STANDARD, cancelled=lambda: next(asked) >= 3)


def test_the_result_names_its_scan():
    scan = body_phantom((40, 30, 20), (9, 8, 11), name="Case 7")
    prepared = prepare(scan, PreparationConfig.plain(), STANDARD)
    assert prepared.scan_name == "Case 7" and prepared.scan_fingerprint == scan.fingerprint


def test_reading_how_scans_are_prepared_needs_no_torch():
    """Libraries hold preparation settings, and are opened also where PyTorch is not installed."""
    code = "import sys; import APELocalizerLib.core.preparation.prepare; sys.exit('torch' in sys.modules)"
    paths = os.pathsep.join(path for path in sys.path if path)
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}).returncode == 0
