"""What a clinician relies on, with the embedded weights on the two real sample CTs of different patients."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from APELocalizerLib.core.annotations.marks import read_boxes, read_points
from APELocalizerLib.core.base.geometry import Box, apply_affine
from APELocalizerLib.core.embedder import Embedder
from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.core.embedding.runner import InferenceSettings
from APELocalizerLib.core.library.files import from_json, to_json
from APELocalizerLib.core.library.learning import learn_box, learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.alignment import align, built_in_reference
from APELocalizerLib.core.localization.localize import localize
from APELocalizerLib.core.model.registry import load_model
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.evaluation.crops import crop_superior_inferior
from made_up.paths import SAMPLES

FLIPS = [*product((False, True), repeat=3), (True, False, True), (False, True, True), (True, True, False), (True,) * 3]
ORIENTATIONS = list(zip([*permutations(range(3))] * 2, FLIPS, strict=True))
"""Twelve of the 48 ways to store a scan: every permutation of the axes twice, with all combinations of flips."""


@pytest.fixture(scope="module")
def model():
    return load_model("default")


@pytest.fixture(scope="module")
def embedder(model):
    return Embedder(model, reference=built_in_reference(model.id))


@pytest.fixture(scope="module")
def support():
    return read_scan(SAMPLES / "support_ct.nii.gz")


@pytest.fixture(scope="module")
def target():
    return read_scan(SAMPLES / "target_ct.nii.gz")


@pytest.fixture(scope="module")
def support_map(embedder, support):
    return embedder.embed(support)


@pytest.fixture(scope="module")
def target_map(embedder, target):
    return embedder.embed(target)


@pytest.fixture(scope="module")
def library(support_map):
    result = learn_points(LandmarkLibrary(), support_map, read_points(SAMPLES / "support_points.csv"))
    for name, box in read_boxes(SAMPLES / "support_boxes.csv").items():
        result = learn_box(result, support_map, name, box)
    return result


def positions(localization) -> np.ndarray:
    return np.array([point.candidate_ras for point in localization.points])


def test_bfloat16_moves_landmarks_by_less_than_a_millimeter(model, library, target, target_map):
    in_half = Embedder(
        model, InferenceSettings(device="cpu", mixed_precision=True), built_in_reference(model.id)
    ).embed(target)
    plain, half = (localize(each, library, model=model) for each in (target_map, in_half))
    assert np.abs(in_half.values - target_map.values).max() > 0, "bfloat16 was not used"
    moved = np.linalg.norm(positions(half) - positions(plain), axis=1)
    assert moved.max() < 1.0
    assert [point.found for point in half.points] == [point.found for point in plain.points]


def test_coordinates_that_are_three_centimeters_off_come_back(model, target):
    """As if the network took the patient for a taller one."""
    plain = Embedder(model, InferenceSettings(device="cpu")).embed(target)
    passes = [replace(each, values=each.values + np.float32([0, 0, 30])) for each in plain.passes]
    reference = built_in_reference(model.id)
    wanted, found = (align(each, reference) for each in (plain, mean_of_passes(passes).with_coarse_ct(plain.coarse_ct)))
    difference = np.linalg.norm(found.values - wanted.values, axis=-1)[wanted.body]
    assert difference.mean() < 12 and np.linalg.norm(wanted.values - plain.values, axis=-1)[wanted.body].mean() < 20


def test_every_click_is_found_again_on_the_support_itself(support_map, library, model):
    result = localize(support_map, library, model=model)
    clicks = read_points(SAMPLES / "support_points.csv")
    for point in result.points:
        assert point.found, point
        assert np.linalg.norm(np.array(point.position_ras) - clicks[point.name]) <= 2.0, point


def stored_as(scan: Scan, order, flips) -> Scan:
    """The same scan with its voxels stored along other axes."""
    voxels, affine = scan.voxels.transpose(order), scan.ijk_to_ras[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            voxels = np.flip(voxels, axis)
            affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
            affine[:3, axis] *= -1
    return Scan(np.ascontiguousarray(voxels), affine, scan.name)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_the_same_scan_in_another_orientation_gives_the_same_landmarks(
    order, flips, embedder, target, target_map, library, model
):
    expected = localize(target_map, library, model=model)
    found = localize(embedder.embed(stored_as(target, order, flips)), library, model=model)
    assert np.linalg.norm(positions(found) - positions(expected), axis=1).max() <= 1.0
    assert [p.status for p in found.points] == [p.status for p in expected.points]
    for organ, other in zip(found.organs, expected.organs, strict=True):
        assert np.allclose(organ.extreme_points_ras, other.extreme_points_ras, atol=1.0)


def resampled(scan: Scan, degrees: float) -> Scan:
    """The scan resampled on a grid turned about all three axes by `degrees` in total, covering the same box."""
    axis = np.array([1.0, -0.7, 0.5]) / np.linalg.norm([1.0, -0.7, 0.5])
    angle = np.deg2rad(degrees)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    spacing = scan.spacing
    corners = scan.corners_ras() @ rotation
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.ceil((high - low) / spacing).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = rotation @ (low + spacing / 2)
    import torch

    index = np.linalg.inv(scan.ijk_to_ras) @ affine
    cells = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    where = apply_affine(index, cells) / (np.array(scan.voxels.shape) - 1) * 2 - 1
    grid = torch.from_numpy(where[:, ::-1].astype(np.float32).copy()).reshape(1, *shape, 3)
    source = torch.from_numpy(scan.voxels.astype(np.float32) + 1024)[None, None]
    voxels = torch.nn.functional.grid_sample(source, grid, align_corners=True, padding_mode="zeros")[0, 0] - 1024
    return Scan(voxels.numpy().round().astype(np.int16), affine, scan.name)


def test_an_oblique_copy_of_the_scan_gives_the_same_landmarks(embedder, target, target_map, library, model):
    expected = localize(target_map, library, model=model)
    found = localize(embedder.embed(resampled(target, 15.0)), library, model=model)
    both = np.array([a.found and b.found for a, b in zip(found.points, expected.points, strict=True)])
    assert both.sum() >= 6
    error = np.linalg.norm(positions(found) - positions(expected), axis=1)[both]
    assert error.max() <= 3.0, error


def test_the_same_voxels_give_the_same_landmarks_wherever_the_origin_lies(embedder, target, target_map, library, model):
    shift = np.array([17.3, -250.9, 34.5])
    affine = target.ijk_to_ras.copy()
    affine[:3, 3] += shift
    moved = localize(embedder.embed(Scan(target.voxels, affine, target.name)), library, model=model)
    np.testing.assert_allclose(
        positions(moved), positions(localize(target_map, library, model=model)) + shift, atol=0.05
    )


def test_a_landmark_outside_the_field_of_view_is_not_found(embedder, target, library, model):
    """The lower half of the chest and the abdomen, without the lung apices, the aortic arch and the notch."""
    abdomen = crop_superior_inferior(target, target.bounds().minimum[2], -170.0)
    result = localize(embedder.embed(abdomen), library, model=model)
    for point in result.points:
        if point.name in ("lung_apex_right", "lung_apex_left", "suprasternal_notch", "aortic_arch_top"):
            assert not point.found and point.position_ras is None, point
            assert point.reason


def test_most_landmarks_lie_on_the_right_anatomy_of_another_patient(target_map, library, model):
    """Loose on purpose: it fails when sides, axes or spacings are mixed up, not when new weights are a little worse."""
    known = read_points(SAMPLES / "target_points.csv")
    result = localize(target_map, library, model=model)
    here = {p.name: np.array(p.candidate_ras) for p in result.points if p.name in known}
    errors = {name: np.linalg.norm(place - known[name]) for name, place in here.items()}
    assert np.median(list(errors.values())) <= 30.0, errors
    boxes = read_boxes(SAMPLES / "target_boxes.csv")
    overlap = {o.name: o.box.iou(boxes[o.name]) for o in result.organs if o.box and o.name in boxes}
    assert np.median(list(overlap.values())) >= 0.4, overlap


def test_a_library_that_was_saved_and_loaded_gives_identical_results(target_map, library, model):
    before = localize(target_map, library, model=model)
    after = localize(target_map, from_json(to_json(library)), model=model)
    assert before == after


def test_boxes_stay_inside_the_scan(target_map, library, model):
    wide = replace(library, organs=tuple(replace(organ, alpha=3.0) for organ in library.organs))
    view: Box = target_map.field_of_view
    for organ in localize(target_map, wide, model=model).organs:
        if organ.box is not None:
            assert view.contains(np.array([organ.box.minimum, organ.box.maximum]), margin=1e-6).all()
            assert organ.volume_ratio >= 1.0
