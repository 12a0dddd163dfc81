"""Baselines on synthetic patients: positions carried over are compared with where they must lie."""

import numpy as np
import pytest

from APELocalizerLib.methods.body_box import BodyBox
from APELocalizerLib.methods.method import PAIR
from APELocalizerLib.methods.registration import Affine, BSpline, coarse_image
from made_up.grids import grid_to_ras
from made_up.scans import body_phantom, phantom_landmarks

SCALE, SHIFT = (1.08, 0.95, 1.05), (12.0, -8.0, 40.0)


@pytest.fixture(scope="module")
def scans():
    """The torso, and a larger one that lies elsewhere."""
    here = body_phantom(noise=10, name="here")
    shape = (84, 60, 52)
    grid = grid_to_ras(shape, (5.0, 5.0, 5.0), center=SHIFT)
    there = body_phantom(shape, ijk_to_ras=grid, scale=np.array(SCALE), shift=SHIFT, noise=10, name="there")
    return {"here": here, "there": there}


@pytest.fixture(scope="module")
def points():
    names = sorted(phantom_landmarks())
    wanted = phantom_landmarks(np.array(SCALE), SHIFT)
    return np.array([phantom_landmarks()[name] for name in names]), np.array([wanted[name] for name in names])


def prepared(method, scans):
    for name, scan in scans.items():
        method.prepare(name, scan)
    return method


def test_body_box_keeps_the_fraction_of_the_body(scans):
    method = prepared(BodyBox(), scans)
    here, there = method._boxes["here"], method._boxes["there"]
    corners = np.array([here.minimum, here.maximum, here.center])
    assert method.carry("here", "there", corners) == pytest.approx(
        np.array([there.minimum, there.maximum, there.center])
    )
    assert here.size[0] == pytest.approx(380, abs=10), "as wide as the table, which is as dense as a body"
    assert here.size[2] == pytest.approx(240), "as long as the scan"


def test_affine_registration_finds_scale_and_shift(scans, points):
    method = prepared(Affine(spacing_mm=10), scans)
    before = np.linalg.norm(points[0] - points[1], axis=1)
    errors = np.linalg.norm(method.carry("here", "there", points[0]) - points[1], axis=1)
    assert before.min() > 25
    assert errors.mean() < 6 and errors.max() < 12
    assert method.clock.mean(PAIR) > 0


def test_registrations_are_kept_in_the_folder(scans, points, tmp_path, monkeypatch):
    first = prepared(BSpline(Affine(tmp_path, 16), tmp_path), scans)
    carried = first.carry("here", "there", points[0])
    assert np.linalg.norm(carried - points[1], axis=1).mean() < 8

    def fail(*_):
        raise AssertionError("registered again")

    for name in ("register_affine", "register_bspline"):
        monkeypatch.setattr(f"APELocalizerLib.methods.registration.{name}", fail)
    again = prepared(BSpline(Affine(tmp_path, 16), tmp_path), scans)
    assert again.carry("here", "there", points[0]) == pytest.approx(carried, abs=1e-6)
    assert again.clock.mean(PAIR) == pytest.approx(first.clock.mean(PAIR))
    with pytest.raises(AssertionError, match="registered again"):
        again.carry("there", "here", points[1])


def test_the_coarse_image_covers_the_scan_where_it_lies(scans):
    image = coarse_image(scans["there"], 10.0)
    center = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    assert center * [-1, -1, 1] == pytest.approx(scans["there"].bounds().center, abs=1e-6)
    extent = np.array(image.GetSize()) * image.GetSpacing()
    assert sorted(extent) == pytest.approx(sorted(scans["there"].bounds().size), abs=1e-6)
