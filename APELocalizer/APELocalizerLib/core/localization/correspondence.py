"""Correspondence: where every place of one scan lies on another one, with an uncertainty in mm, or "not in view".

Places of a lattice are looked up by their anatomical coordinates and by the image, from both scans (`control_points`),
and a smooth field is laid through them that outliers move little (`symmetric_field`). After that a place costs a few
readings of a table. Both directions are one field, so that going there and back ends where it began.

How far off an answer may be was measured on scans of different patients with known landmarks: the fewer control points
there are around it, the less they agree, and the more the coordinates of both places differ, the farther.
Positions are RAS mm.
"""

from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.errors import CorrespondenceError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report, sub_progress
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.localization.control_points import ControlPoints, find_control_points
from APELocalizerLib.core.localization.symmetric_field import PRIOR_MM, SymmetricField, fit_field

FEWEST, FEWEST_SHARE = 12, 0.3
"""Control points that must agree with their neighbors, in all and as a share: else the scans show nothing in common."""

AGREES = 0.5
"""Weight from which on a control point agrees with its neighbors."""

UNKNOWN_SHARE = 0.95
"""A place where the standard deviation is this share of that without any control point is not in view."""

OFFSET, WEIGHTS = -0.68, (0.65, 0.8, 0.25)
"""log(1 + expected error) is OFFSET plus these, times log(1 + mm) of the standard deviation of the field, of the misfit
of the control points around, and of the difference of the coordinates. Fitted to 1,140 landmarks of 60 pairs of scans
of different patients; of 458 landmarks of 20 pairs with two other patients, 52 % were below."""

RADIUS = 2.6
"""Nine of ten errors are below so many times the expected one; on the other patients 94 % were."""


@dataclass(frozen=True, eq=False)
class Counterparts:
    """Where n places of one scan lie on the other: `positions_ras` (n, 3), NaN for those that are not `in_view` (n,).

    Half of such answers are off by less than `expected_error_mm` (n,), 9 of 10 by less than `radius_90_mm` (n,); both
    are infinite for places that are not in view.
    """

    positions_ras: np.ndarray
    expected_error_mm: np.ndarray
    radius_90_mm: np.ndarray
    in_view: np.ndarray


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Which places of two scans are the same. `field` leads from the `first` scan to the `second` and back."""

    first: EmbeddingMap
    second: EmbeddingMap
    control_points: ControlPoints
    field: SymmetricField

    def to_second(self, points_ras: np.ndarray) -> Counterparts:
        """Where places (n, 3) RAS mm of the first scan lie on the second."""
        points = np.asarray(points_ras, dtype=np.float64).reshape(-1, 3)
        return self._counterparts(points, self.field.forward(points), (self.first, self.second))

    def to_first(self, points_ras: np.ndarray) -> Counterparts:
        """Where places (n, 3) RAS mm of the second scan lie on the first."""
        points = np.asarray(points_ras, dtype=np.float64).reshape(-1, 3)
        return self._counterparts(points, self.field.backward(points), (self.second, self.first))

    def _counterparts(
        self, points: np.ndarray, positions: np.ndarray, maps: tuple[EmbeddingMap, EmbeddingMap]
    ) -> Counterparts:
        here, there = maps
        pair = (points, positions) if here is self.first else (positions, points)
        doubt = self.field.doubt_at(*pair)
        apart = np.linalg.norm(here.embedding_at(points) - there.embedding_at(positions), axis=1)
        in_view = here.field_of_view.contains(points) & there.field_of_view.contains(positions)
        in_view &= doubt[:, 0] < UNKNOWN_SHARE * PRIOR_MM
        expected = np.expm1(OFFSET + np.log1p(np.column_stack([doubt, apart])) @ WEIGHTS)
        expected = np.where(in_view, expected, np.inf)
        return Counterparts(np.where(in_view[:, None], positions, np.nan), expected, RADIUS * expected, in_view)


def correspond(
    first: EmbeddingMap,
    second: EmbeddingMap,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> Correspondence:
    """Find which places of two scans are the same.

    Raises `CorrespondenceError` if both are the same scan, were mapped by different models or with different
    references, or seem to share nothing; and `Cancelled`.
    """
    check_pair(first, second)
    report(progress, 0.0, "Comparing the scans")
    controls = find_control_points(first, second, progress=sub_progress(progress, 0.0, 0.8), cancelled=cancelled)
    check_cancelled(cancelled)
    if len(controls) < FEWEST:
        raise _nothing_shared(first, second)
    field = fit_field(controls.first, controls.second, controls.spread_mm)
    agreeing = int((field.weights >= AGREES).sum())
    if agreeing < max(FEWEST, FEWEST_SHARE * len(controls)):
        raise _nothing_shared(first, second)
    report(progress, 1.0, "Comparing the scans")
    return Correspondence(first, second, controls, field)


def check_pair(first: EmbeddingMap, second: EmbeddingMap) -> None:
    """Raise `CorrespondenceError` for twice the same scan, and for coordinates that cannot be compared."""
    if first is second or (first.scan_fingerprint and first.scan_fingerprint == second.scan_fingerprint):
        raise given_twice(first.scan_name)
    if first.space.model_id != second.space.model_id:
        raise CorrespondenceError(
            f"The scans were mapped with different models, {first.model_id} and {second.model_id}. Map both with one."
        )
    if not first.space.fits(second.space):
        raise CorrespondenceError(
            f"The coordinates of one scan are {first.space.in_words()}, those of the other are "
            f"{second.space.in_words()}. Map both with the same reference."
        )


def given_twice(name: str) -> CorrespondenceError:
    """The error for twice the same scan."""
    return CorrespondenceError(f"“{name}” is given twice. Choose two different scans.")


def _nothing_shared(first: EmbeddingMap, second: EmbeddingMap) -> CorrespondenceError:
    return CorrespondenceError(
        f"“{first.scan_name}” and “{second.scan_name}” do not seem to show a common part of the body. Choose scans of "
        "the trunk that overlap by at least 5 cm."
    )
