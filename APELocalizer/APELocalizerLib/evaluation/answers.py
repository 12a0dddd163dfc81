"""From a method's answers to retrievals: their distance from the annotations, by the rules of the protocol. RAS mm."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from APELocalizerLib.core.base.geometry import Box, apply_affine
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.retrieval_table import BOX_SIDES, EXTREME_POINT, Retrieval
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place
from APELocalizerLib.methods.method import Answer


def retrievals_of(
    answers: Mapping[Place, Answer],
    method: str,
    target: AnnotatedCase,
    supports: Sequence[AnnotatedCase],
    protocol: Protocol,
) -> list[Retrieval]:
    """A retrieval for every landmark and center, and seven for every organ: its six extreme points and its box."""
    rows = []
    for place, answer in answers.items():
        base = _without_errors(answer, method, target, supports, place)
        truth = target.places[place]
        positions = _rounded(answer.positions, target) if protocol.answers == "voxel" else answer.positions
        if place.kind != "organ":
            rows.append(_point(base, place.kind, "", positions[0] - truth[0]))
            continue
        differences = zip(BOX_SIDES, positions - truth, strict=True)
        rows += [_point(base, EXTREME_POINT, side, difference) for side, difference in differences]
        if answer.box is None and not np.isfinite(positions).all():
            continue  # a method that says nothing along an axis makes no boxes
        box = _box(answer, positions, target, protocol)
        rows.append(box_retrieval(replace(base, kind="box"), box, target.organs[place.name].box))
    return rows


def absent_retrievals(
    answers: Mapping[Place, Answer], method: str, target: AnnotatedCase, supports: Sequence[AnnotatedCase], part: str
) -> list[Retrieval]:
    """Retrievals of places that were cropped away; `part` says which part of the target's scan was left."""
    rows = []
    for place, answer in answers.items():
        kind = "box" if place.kind == "organ" else place.kind
        rows.append(replace(_without_errors(answer, method, target, supports, place), kind=f"absent {kind}", part=part))
    return rows


def box_retrieval(base: Retrieval, box: Box | None, truth: Box) -> Retrieval:
    """The retrieval of a box: its overlap with the true one, the distance of its center and sides; IoU 0 without."""
    if box is None:
        return replace(base, iou=0.0, box=None)
    r, a, s = map(float, box.center - truth.center)
    sides = np.abs(np.subtract((box.minimum, box.maximum), (truth.minimum, truth.maximum)))
    return replace(
        base,
        iou=box.iou(truth),
        wall_error_mm=float(sides.mean()),
        error_mm=float(np.linalg.norm(box.center - truth.center)),
        error_r_mm=r,
        error_a_mm=a,
        error_s_mm=s,
        box=box,
    )


def _without_errors(
    answer: Answer, method: str, target: AnnotatedCase, supports: Sequence[AnnotatedCase], place: Place
) -> Retrieval:
    """The retrieval without its errors; its uncertainty is the target's and the supports' mean one together."""
    sigmas = [support.sigma(place) for support in supports if place in support.places]
    sigma_of_target = target.sigma(place)
    sigma = 0.0
    if sigma_of_target and all(sigmas):
        sigma = float(np.sqrt(sigma_of_target**2 + np.square(sigmas).sum() / len(sigmas) ** 2))
    return Retrieval(
        method,
        target.id,
        tuple(support.id for support in supports),
        place.kind,
        place.name,
        definition=place.definition,
        uncertainty_mm=sigma,
        round_trip_mm=answer.round_trip_mm,
        distance=answer.distance,
        found=answer.found,
    )


def _point(base: Retrieval, kind: str, part: str, difference: np.ndarray) -> Retrieval:
    """The retrieval of one point, `difference` (3,) being found minus true; NaN along an axis without an answer."""
    r, a, s = map(float, difference)
    error = float(np.linalg.norm(difference))
    return replace(base, kind=kind, part=part, error_mm=error, error_r_mm=r, error_a_mm=a, error_s_mm=s)


def _box(answer: Answer, positions: np.ndarray, target: AnnotatedCase, protocol: Protocol) -> Box | None:
    """Box of six found positions (6, 3), as the protocol makes it; None if opposite sides are in the wrong order."""
    if protocol.box_from == "all":
        return Box.around(positions)
    if protocol.box_from == "pairs":
        sides = np.array([positions[[0, 2, 4], [0, 1, 2]], positions[[1, 3, 5], [0, 1, 2]]])
    elif answer.box is None or protocol.answers == "exact":
        return answer.box
    else:
        sides = np.sort(_rounded(np.array([answer.box.minimum, answer.box.maximum]), target), axis=0)
    return Box(tuple(sides[0]), tuple(sides[1])) if np.all(sides[1] > sides[0]) else None


def _rounded(positions: np.ndarray, target: AnnotatedCase) -> np.ndarray:
    """Positions (n, 3) moved to the nearest voxel centers of the target's scan; what is NaN stays NaN."""
    known = np.isfinite(positions)
    complete = np.where(known, positions, target.field_of_view.center)
    voxels = np.rint(apply_affine(np.linalg.inv(target.ijk_to_ras), complete))
    return np.where(known, apply_affine(target.ijk_to_ras, voxels), np.nan)
