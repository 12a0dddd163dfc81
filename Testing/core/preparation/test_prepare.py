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
from APELocalizerLib.core.preparation.body import body_box, body_mask
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.orientation import to_canonical
from APELocalizerLib.core.preparation.prepare import prepare
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import grid_to_ras
from made_up.paths import SAMPLES
from made_up.scans import body_phantom, phantom_hu, phantom_landmarks, reoriented

CTS = sorted(SAMPLES.glob("*_ct.nii.gz"))

STANDARD = (2.0, 2.0, 3.0)


def bounding_box(mask):
    axes = range(mask.ndim)
    ends = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis)))[[0, -1]] + [0, 1] for axis in axes]
    return tuple(slice(*end) for end in ends)


def published_reference(scan: Scan):
    """(image, body mask) as the published network's training data were made, with scipy and scikit-image."""
    ndimage = pytest.importorskip("scipy.ndimage")
    pytest.importorskip("skimage")
    from skimage.exposure import equalize_adapthist
    from skimage.measure import block_reduce
    from skimage.segmentation import flood

    image, grid = to_canonical(scan)
    spacing = spacing_of(grid)
    block = tuple(np.ceil(5 / spacing).astype(int))
    box = bounding_box(block_reduce(image >= -500, block, np.min))
    image = image[tuple(slice(s.start * b, s.stop * b) for s, b in zip(box, block, strict=True))].astype(np.float32)
    image = ndimage.zoom(image, spacing / (1.0, 1.0, 1.5), order=1, mode="constant", cval=image.min())
    image = image[bounding_box(image > image.min())]
    air = np.pad(image < -500, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    mask = ~flood(air, (0, 0, 0))[1:-1, 1:-1]
    image = np.clip((image + np.float32(1000)) / np.float32(1300), 0, 1)
    return equalize_adapthist(image, clip_limit=0.05), mask


CASES = {
    "thick slices": lambda: body_phantom((60, 42, 15), (6.1, 5.3, 8.0)),
    "coarse": lambda: body_phantom((40, 44, 30), (4.9, 4.9, 4.0), noise=30),
    "padding": lambda: padded(body_phantom((60, 42, 20), (6.0, 5.5, 5.0))),
    "short": lambda: body_phantom((50, 40, 8), (8.0, 8.0, 5.0)),
} | {path.name: lambda path=path: cropped(read_scan(path)) for path in CTS[:1]}


def padded(scan: Scan) -> Scan:
    voxels = scan.voxels.copy()
    voxels[:, :, :3] = -2048
    return Scan(voxels, scan.ijk_to_ras)


def cropped(scan: Scan) -> Scan:
    """At most 40 slices from the middle, to keep the reference fast."""
    start = max(0, (scan.voxels.shape[2] - 40) // 2)
    affine = scan.ijk_to_ras.copy()
    affine[:3, 3] += affine[:3, 2] * start
    return Scan(scan.voxels[:, :, start : start + 40], affine)


@pytest.mark.parametrize("case", CASES)
def test_published_preparation_equals_scipy_and_scikit_image(case):
    scan = CASES[case]()
    expected, expected_mask = published_reference(scan)
    prepared = prepare(scan, PreparationConfig.published(), (1.0, 1.0, 1.5))
    assert prepared.image.shape == expected.shape and prepared.image.dtype == np.float32
    assert np.abs(prepared.image - expected).max() <= 2e-3
    assert np.array_equal(prepared.body_mask, expected_mask)


def test_published_preparation_at_another_spacing_is_a_second_corner_aligned_zoom():
    ndimage = pytest.importorskip("scipy.ndimage")
    scan = body_phantom((60, 42, 30), (6.0, 6.0, 5.0))
    base = prepare(scan, PreparationConfig.published(), (1.0, 1.0, 1.5))
    coarse = prepare(scan, PreparationConfig.published(), STANDARD)
    expected = ndimage.zoom(base.image, (1 / 2, 1 / 2, 1 / 2), order=1, mode="nearest")
    assert coarse.image.shape == expected.shape
    assert np.abs(coarse.image - expected).max() < 1e-5
    for corner in itertools.product((0, 1), repeat=3):
        ends = [apply_affine(p.grid_to_ras, np.array(corner) * (np.array(p.image.shape) - 1)) for p in (base, coarse)]
        assert np.allclose(*ends, atol=1e-6)
    to_base = np.linalg.inv(base.grid_to_ras) @ coarse.grid_to_ras
    nearest = np.round(apply_affine(to_base, [[20, 30, 10]])[0]).astype(int)
    assert coarse.body_mask[20, 30, 10] == base.body_mask[tuple(nearest)]


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


def test_the_body_mask_holds_the_lungs_but_not_the_air_around():
    prepared = prepare(body_phantom(), PreparationConfig.plain(), STANDARD)
    inverse = np.linalg.inv(prepared.grid_to_ras)
    inside = np.round(apply_affine(inverse, [[75, 5, 55], [-75, 5, 50], [-50, 45, -60], [70, 10, -45]])).astype(int)
    assert prepared.body_mask[tuple(inside.T)].all()
    assert not prepared.body_mask[0, 0].any() and not prepared.body_mask[0, -1].any()
    assert prepared.image[tuple(inside[0])] < 0.25 < prepared.image[tuple(inside[3])]


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


@pytest.mark.parametrize("seed", range(6))
def test_the_body_mask_equals_a_flood_fill(seed):
    segmentation = pytest.importorskip("skimage.segmentation")
    rng = np.random.default_rng(seed)
    air = rng.random((21, 13, 17)) < (0.12, 0.2, 0.3, 0.5, 0.9, 0.0)[seed]
    around = np.pad(air, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    expected = ~segmentation.flood(around, (0, 0, 0))[:, 1:-1, 1:-1]
    assert np.array_equal(body_mask(air), expected)


@pytest.mark.parametrize("spacing", [(5.0, 5.0, 5.0), (3.0, 2.2, 1.7), (1.0, 0.9, 8.0)])
def test_the_body_box_equals_a_block_minimum(spacing):
    measure = pytest.importorskip("skimage.measure")
    rng = np.random.default_rng(3)
    stack = np.full((37, 41, 45), -1000, np.int16)
    stack[5:36, 9:33, 2:44] = rng.integers(-400, 100, (31, 24, 42))
    block = tuple(np.ceil(5 / np.array(spacing)).astype(int))
    expected = bounding_box(measure.block_reduce(stack >= -500, block, np.min))
    expected = tuple(slice(s.start * b, s.stop * b) for s, b in zip(expected, block, strict=True))
    for flip in itertools.product((1, -1), repeat=3):
        steps = tuple(slice(None, None, step) for step in flip)
        view = np.ascontiguousarray(stack[steps])[steps]
        assert body_box(view, np.array(spacing), -500) == expected


LOCKED = PreparationConfig.on_fixed_lattice()


def test_a_locked_grid_reads_a_cropped_copy_at_the_same_places():
    """Sides cropped by odd amounts, as other scans of the same patient are: the voxels in common are the same."""
    scan = body_phantom((96, 70, 60), (4, 4, 4))
    start = np.array([13, 7, 0])
    affine = scan.ijk_to_ras.copy()
    affine[:3, 3] = apply_affine(affine, start[None])[0]
    cropped = Scan(scan.voxels[start[0] : 90, start[1] : 65], affine, "cropped")
    whole, part = prepare(scan, LOCKED, (8.0, 8.0, 12.0)), prepare(cropped, LOCKED, (8.0, 8.0, 12.0))
    offset = apply_affine(np.linalg.inv(whole.grid_to_ras), part.grid_to_ras[:3, 3][None])[0]
    assert np.allclose(offset, np.round(offset), atol=1e-6), "the two grids share one lattice"
    inner = np.argwhere(part.body_mask)
    inner = inner[((inner > 1) & (inner < np.array(part.body_mask.shape) - 2)).all(axis=1)]
    there = inner + np.round(offset).astype(int)
    known = ((there >= 0) & (there < whole.image.shape)).all(axis=1)
    same = np.abs(part.image[tuple(inner[known].T)] - whole.image[tuple(there[known].T)]) < 1e-4
    assert same.mean() > 0.9
    plain = [prepare(each, PreparationConfig.plain(), (8.0, 8.0, 12.0)).grid_to_ras for each in (scan, cropped)]
    shift = apply_affine(np.linalg.inv(plain[0]), plain[1][:3, 3][None])[0]
    assert np.abs(shift - np.round(shift)).max() > 0.05, "without the lattice they do not"


def test_a_locked_grid_holds_no_body_beyond_the_scan_and_shows_the_same_anatomy():
    scan = body_phantom((80, 56, 48), (5, 5, 5), noise=0)
    prepared = prepare(scan, LOCKED, (3.0, 3.0, 4.5))
    cells = np.argwhere(prepared.body_mask)
    assert scan.bounds().contains(apply_affine(prepared.grid_to_ras, cells), margin=0.1).all()
    points = np.array([p for name, p in phantom_landmarks().items() if name not in ("carina", "right dome")])
    index = np.round(apply_affine(np.linalg.inv(prepared.grid_to_ras), points)).astype(int)
    assert np.allclose(prepared.image[tuple(index.T)], np.clip((phantom_hu(points) + 1000) / 1300, 0, 1), atol=0.02)


def test_thick_slices_are_not_trimmed_away():
    thick = body_phantom((80, 56, 9), (5, 5, 25), noise=0)
    prepared = prepare(thick, LOCKED, (4.0, 4.0, 6.0))
    heights = apply_affine(prepared.grid_to_ras, np.argwhere(prepared.body_mask))[:, 2]
    assert heights.min() < thick.bounds().minimum[2] + 15 and heights.max() > thick.bounds().maximum[2] - 15


def test_a_lattice_that_is_no_three_numbers_is_refused():
    with pytest.raises(PreparationError, match="three whole numbers"):
        PreparationConfig.from_dict({**PreparationConfig.on_fixed_lattice().to_dict(), "lattice": 8})


def test_reading_how_scans_are_prepared_needs_no_torch():
    """Libraries hold preparation settings, and are opened also where PyTorch is not installed."""
    code = "import sys; import APELocalizerLib.core.preparation.prepare; sys.exit('torch' in sys.modules)"
    paths = os.pathsep.join(path for path in sys.path if path)
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}).returncode == 0
