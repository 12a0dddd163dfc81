"""What a localization answers: points, organ boxes, and how sure it is of each. RAS mm."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.entries import Code, Landmark, Organ
from APELocalizerLib.core.localization.boxes import box_between, fitted_sides, mean_bounding_sides, sides_of, with_sides
from APELocalizerLib.core.localization.confidence import (
    NOT_FOUND_GRADE,
    UNKNOWN,
    Confidence,
    lies_beyond,
    read_calibrations,
)
from APELocalizerLib.core.localization.queries import EXTREME_POINT, INNER_POINT, LANDMARK, Query
from APELocalizerLib.core.localization.reasons import FIELD_OF_VIEW_MARGIN_MM, why_not_found
from APELocalizerLib.core.localization.votes import Located

FOUND, NOT_FOUND = "found", "not_found"

MIN_EXTREME_POINTS_FOUND = 3
"""An organ is found if at least this many of its six extreme points are: the field of view may cut the others."""

FLAT = "extreme points were found, but do not form a box"
"""Why an organ is not found if opposite sides were found in the wrong order or at the same position."""


@dataclass(frozen=True)
class LocatedPoint:
    """A landmark on the scan. `position_ras` is None when it was not found; `candidate_ras` is the best guess.

    Half of such answers are off by less than `expected_error_mm`, 9 of 10 by less than `radius_90_mm`: NaN where that
    is unknown. `grade` is one of `confidence.GRADES`, "" where nothing was measured. `round_trip_mm` is a consistency
    check, not the error.
    """

    name: str
    found: bool
    position_ras: tuple[float, float, float] | None
    candidate_ras: tuple[float, float, float]
    round_trip_mm: float
    distance: float
    reason: str
    color: tuple[float, float, float]
    code: Code | None = None
    description: str = ""
    expected_error_mm: float = float("nan")
    radius_90_mm: float = float("nan")
    grade: str = ""

    @property
    def status(self) -> str:
        """ "found" or "not_found"."""
        return FOUND if self.found else NOT_FOUND


@dataclass(frozen=True)
class LocatedOrgan:
    """An organ's box on the scan, enlarged by `alpha` and clipped to the field of view (None when not found).

    `raw_box` is the box before that; `volume_ratio` is the scan's volume divided by the box's (APE paper, Table 4).
    `extreme_points_ras` (6, 3) in the library's order, found or not.
    """

    name: str
    found: bool
    box: Box | None
    raw_box: Box | None
    alpha: float
    volume_ratio: float
    round_trip_mm: float
    distance: float
    extreme_points_ras: tuple[tuple[float, float, float], ...]
    reason: str
    color: tuple[float, float, float]
    code: Code | None = None
    expected_error_mm: float = float("nan")
    radius_90_mm: float = float("nan")
    grade: str = ""

    @property
    def status(self) -> str:
        """ "found" or "not_found"."""
        return FOUND if self.found else NOT_FOUND

    @property
    def center_ras(self) -> tuple[float, float, float] | None:
        """Center of the organ: of the box before it was enlarged and clipped, which moves the box's own center."""
        return None if self.box is None or self.raw_box is None else _point(self.raw_box.center)


@dataclass(frozen=True)
class Localization:
    """All results on one scan."""

    points: tuple[LocatedPoint, ...]
    organs: tuple[LocatedOrgan, ...]
    space: CoordinateSpace
    spacing: str
    scan_name: str
    rule: str
    threshold_mm: float
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> tuple[LocatedPoint | LocatedOrgan, ...]:
        """Landmarks, then organs."""
        return (*self.points, *self.organs)

    @property
    def model_id(self) -> str:
        """Id of the model that the scan was read with."""
        return self.space.model_id


def confidence_text(result: LocatedPoint | LocatedOrgan) -> str:
    """One line for the point's description: grade, expected error and round trip, or why it was not found."""
    if not result.found:
        return f"not found: {result.reason}" if result.reason else "not found"
    trip = f"round trip {result.round_trip_mm:.1f} mm" if np.isfinite(result.round_trip_mm) else ""
    if not np.isfinite(result.expected_error_mm):
        return f"found, {trip}" if trip else "found"
    error = f"expected error {result.expected_error_mm:.0f} mm (90 % within {result.radius_90_mm:.0f} mm)"
    return f"{result.grade}: {error}; {trip}" if trip else f"{result.grade}: {error}"


class Answers:
    """Turns what was found for the queries into one answer per landmark and organ."""

    def __init__(
        self,
        scan_map: EmbeddingMap,
        queries: Sequence[Query],
        located: Located,
        threshold_mm: float,
        boxes_of_shots: bool,
    ) -> None:
        """`located`: where the queries were found. A round trip beyond `threshold_mm` counts as not found.

        `boxes_of_shots`: an organ's box is the mean of the bounding boxes that its shots find (the paper's rule); else
        every side is where its extreme point is found, so that one stray point moves one side only.
        """
        self._map, self._queries, self._located = scan_map, queries, located
        self._threshold_mm, self._boxes_of_shots = threshold_mm, boxes_of_shots
        self._calibrations = None if located.signals is None else read_calibrations(scan_map.model_id)
        self._numbers: dict[tuple[str, str], list[int]] = {}
        for number, query in enumerate(queries):
            self._numbers.setdefault((query.name, query.kind), []).append(number)

    def point(self, landmark: Landmark) -> LocatedPoint:
        """The answer for a landmark."""
        (number,) = self._numbers[landmark.name, LANDMARK]
        position, round_trip_mm = self._located.positions[number], float(self._located.round_trip_mm[number])
        distance, view = float(self._located.distances[number]), self._map.field_of_view
        inside = view.contains(position, margin=FIELD_OF_VIEW_MARGIN_MM)[0]
        position_in_view = np.clip(position, view.minimum, view.maximum)
        to_border_mm = float(np.min([position_in_view - view.minimum, view.maximum - position_in_view]))
        is_found = bool(round_trip_mm <= self._threshold_mm and inside and not lies_beyond(distance, to_border_mm))
        if is_found:
            position = position_in_view
        confidence = self._confidence(number) if is_found else UNKNOWN
        return LocatedPoint(
            name=landmark.name,
            found=is_found,
            position_ras=_point(position) if is_found else None,
            candidate_ras=_point(position),
            round_trip_mm=round_trip_mm,
            distance=distance,
            reason="" if is_found else why_not_found(self._map, position, round_trip_mm, self._threshold_mm),
            color=landmark.color,
            code=landmark.code,
            description=landmark.description,
            expected_error_mm=confidence.expected_error_mm,
            radius_90_mm=confidence.radius_90_mm,
            grade=confidence.grade if is_found else NOT_FOUND_GRADE,
        )

    def _confidence(self, query: int) -> Confidence:
        """How far off the position found for a query may be."""
        signals = self._located.signals
        if self._calibrations is None or signals is None:
            return UNKNOWN
        return self._calibrations.confidence(signals.features[query], len(self._queries[query].clicks))

    def organ(self, organ: Organ) -> LocatedOrgan:
        """The answer for an organ."""
        six = self._numbers[organ.name, EXTREME_POINT]
        round_trips = self._located.round_trip_mm[six]
        extreme_points = self._extreme_points(organ)
        raw_box = self._box(organ, extreme_points)
        seen = int((round_trips <= self._threshold_mm).sum()) >= MIN_EXTREME_POINTS_FOUND
        box = raw_box.enlarged(organ.alpha).clipped(self._map.field_of_view) if seen and raw_box is not None else None
        round_trip_mm = float(np.median(round_trips))
        no_box = (
            FLAT
            if seen and raw_box is None
            else why_not_found(self._map, extreme_points.mean(axis=0), round_trip_mm, self._threshold_mm)
        )
        return LocatedOrgan(
            name=organ.name,
            found=box is not None,
            box=box,
            raw_box=raw_box,
            alpha=organ.alpha,
            volume_ratio=float("nan") if box is None else self._map.field_of_view.volume_mm3 / box.volume_mm3,
            round_trip_mm=round_trip_mm,
            distance=float(np.median(self._located.distances[six])),
            extreme_points_ras=tuple(map(_point, extreme_points)),
            reason=no_box if box is None else "",
            color=organ.color,
            code=organ.code,
            grade=NOT_FOUND_GRADE if box is None else "",
        )

    def _extreme_points(self, organ: Organ) -> np.ndarray:
        """The organ's extreme points (6, 3); where positions inside its box were found, too, the sides follow both.

        The sides are then halfway between the box that the extreme points span and the one fitted to the positions
        inside: the two err differently, so their mean errs less.
        """
        extreme_points = self._located.positions[self._numbers[organ.name, EXTREME_POINT]]
        inner = self._numbers.get((organ.name, INNER_POINT))
        if inner is None:
            return extreme_points
        in_box = np.array([self._queries[number].in_box for number in inner])
        learned_sides = np.array([sides_of(shot.extreme_points_ras) for shot in organ.shots])
        half_size = np.ptp(learned_sides, axis=1).mean(axis=0) / 2
        fitted = fitted_sides(in_box, self._located.positions[inner], half_size)
        return with_sides(extreme_points, (sides_of(extreme_points) + fitted) / 2)

    def _box(self, organ: Organ, extreme_points: np.ndarray) -> Box | None:
        """Box of the organ; None if its sides are so inconsistent that no box remains."""
        if not self._boxes_of_shots:
            return box_between(sides_of(extreme_points))
        votes = [self._located.votes_of(number) for number in self._numbers[organ.name, EXTREME_POINT]]
        return box_between(mean_bounding_sides(np.stack(votes, axis=1)))


def _point(position: np.ndarray) -> tuple[float, float, float]:
    r, a, s = (float(x) for x in position)
    return r, a, s
