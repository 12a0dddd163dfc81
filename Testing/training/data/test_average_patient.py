"""Canonical frames: patients of known shape must map onto one average patient."""

import numpy as np
import pytest

from APELocalizerLib.training.data.average_patient import (
    FrameModel,
    Observation,
    average_patient,
    box_observations,
    fit_frame,
    point_observations,
    robust_frames,
)

MODEL = FrameModel()


def patients(count: int = 6, places: int = 25, seed: int = 0):
    """Patients that are affine images of one body: observations, and the affine maps body -> patient."""
    rng = np.random.default_rng(seed)
    body = rng.uniform(-1, 1, (places, 3)) * (150, 100, 250)
    scans, affines = {}, {}
    for number in range(count):
        matrix = np.diag(rng.uniform(0.85, 1.15, 3)) + rng.normal(0, 0.03, (3, 3)) * (1 - np.eye(3))
        shift = rng.uniform(-300, 300, 3)
        affines[f"p{number}"] = (matrix, shift)
        seen = rng.permutation(places)[: places - 5]
        scans[f"p{number}"] = [o for i in seen for o in point_observations(f"place{i}", matrix @ body[i] + shift, 2.0)]
    return body, scans, affines


def test_the_same_place_of_different_patients_gets_the_same_coordinates():
    body, scans, affines = patients()
    average = average_patient(scans, MODEL)
    probe = np.random.default_rng(1).uniform(-0.8, 0.8, (40, 3)) * (150, 100, 250)
    mapped = [
        fit_frame(scans[name], average, MODEL)(probe @ matrix.T + shift) for name, (matrix, shift) in affines.items()
    ]
    spread = np.linalg.norm(np.std(mapped, axis=0), axis=1)
    assert spread.max() < 6.0
    slope = [np.polyfit(probe[:, axis], np.mean(mapped, axis=0)[:, axis], 1)[0] for axis in range(3)]
    assert np.all(np.abs(np.array(slope) - 1) < 0.15), "the average patient must keep its size"


def test_a_known_affine_is_recovered_and_trust_falls_with_distance():
    body, scans, affines = patients()
    average = average_patient(scans, MODEL)
    frame = fit_frame(scans["p0"], average, MODEL)
    matrix, shift = affines["p0"]
    seen = {o.key for o in scans["p0"]}
    for index, point in enumerate(body):
        goal = average.point(f"place{index}")
        if f"place{index}" not in seen:  # predicted, not fitted
            assert np.linalg.norm(frame((matrix @ point + shift)[None])[0] - goal) < 8.0
    near, far = frame.variance(np.array([matrix @ body[0] + shift, shift + np.array([0, 0, 900.0])]))
    assert far.mean() > 4 * near.mean()


def test_an_organ_out_of_place_loses_weight():
    _, scans, _ = patients()
    moved = scans["p1"][0]
    wrong = Observation(
        moved.key, moved.axis, tuple(np.array(moved.point) + 120.0 * np.eye(3)[moved.axis]), moved.sigma
    )
    _, kept = robust_frames({**scans, "p1": [wrong, *scans["p1"][1:]]}, MODEL)
    assert kept["p1"][0].sigma > 10 * moved.sigma
    assert np.median([o.sigma for o in kept["p1"]]) == moved.sigma


def test_cut_box_sides_are_not_observed():
    found = box_observations("liver", (0, 0, 0), (10, 20, 30), 5.0, cut=("smin",))
    keys = {(o.key, o.axis) for o in found}
    assert ("liver.smin", 2) not in keys and ("liver.middle", 2) not in keys
    assert ("liver.smax", 2) in keys and ("liver.middle", 0) in keys


def test_a_scan_without_shared_places_is_refused():
    _, scans, _ = patients()
    average = average_patient(scans, MODEL)
    with pytest.raises(ValueError, match="Nothing is known"):
        fit_frame(point_observations("elsewhere", (0, 0, 0), 1.0), average, MODEL)
