"""Localization: every landmark and organ of a library on one scan, each with a confidence, or "not found".

Positions are RAS world mm. Confidence is the round-trip error in mm (see `retrieval.round_trip`, and for places that
are refined `matching.refine_and_check`); beyond the model's calibrated threshold a landmark counts as not found.
"""

from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.errors import LocalizationError
from APELocalizerLib.core.base.geometry import Box, spacing_of
from APELocalizerLib.core.base.parallel import parallel_for
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report, sub_progress
from APELocalizerLib.core.embedding.coordinate_space import UNKNOWN_REFERENCE
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.library import Landmark, LandmarkLibrary, Organ
from APELocalizerLib.core.localization.answers import Localization, LocatedOrgan, LocatedPoint
from APELocalizerLib.core.localization.boxes import fitted_sides, inner_points
from APELocalizerLib.core.localization.matching import WAYS_BACK, can_be_compared, refine_and_check
from APELocalizerLib.core.localization.votes import Shots, Votes, collect_votes, decide, round_trip
from APELocalizerLib.core.model.model import DEFAULT_THRESHOLD_MM, Model

FIELD_OF_VIEW_MARGIN_MM = 1.0
"""A place this far outside the scan still counts as in it: rounding, not anatomy."""

MIN_EXTREME_POINTS_FOUND = 3
"""An organ is found if at least this many of its six extreme points are: the field of view may cut the others."""


NOT_COMPARED = "Places were found by their coordinates alone: the map or the library holds no coarse CT to compare."
"""Said when no refinement by appearance was possible: places are then less exact."""

FLAT = "its extreme points were found, but they span no box"
"""Why an organ is not found whose opposite walls were found in the wrong order or at the same place."""


@dataclass(frozen=True)
class LocalizationSettings:
    """Retrieval rule ("robust" or "paper") and the threshold in mm (None: the model's calibrated one).

    `refine`: move every place to where the scan looks like the support around the click (see `matching`), if map and
    library hold the scans' appearance. Without it places stay where the embeddings point, as in the paper.

    The paper's rule is the default: on held-out patients the robust one is as exact, and less steady when a scan is
    resampled (see the model card).
    """

    rule: str = "paper"
    round_trip_threshold_mm: float | None = None
    refine: bool = True


def get_ready(library: LandmarkLibrary, cancelled: CancelCheck | None = None) -> None:
    """Make now, on all cores, what the first localization with the library would make of its supports."""
    maps = [each for support in library.supports for each in (support.map, *support.map.passes)]
    parallel_for(lambda number: maps[number].get_ready(), len(maps), None, cancelled)


def localize(
    embedding_map: EmbeddingMap,
    library: LandmarkLibrary,
    settings: LocalizationSettings | None = None,
    model: Model | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> Localization:
    """Find every landmark and organ of the library on the scan of the map.

    Raises `LocalizationError` if the library is empty or was learned with another model, and `Cancelled`.
    """
    settings = settings or LocalizationSettings()
    if not library.entries:
        raise LocalizationError("The library is empty. Learn a landmark on a support scan first, or open a library.")
    if library.model_id != embedding_map.model_id:
        raise LocalizationError(
            f"The library was learned with the model {library.model_id}, but the scan was read with "
            f"{embedding_map.model_id}. Choose the library's model, or learn the landmarks again."
        )
    if not library.space.fits(embedding_map.space):
        raise LocalizationError(
            f"The coordinates of the library are {library.space.in_words()}, those of the scan are "
            f"{embedding_map.space.in_words()}. They cannot be compared: read the scan with the library's reference, "
            "or learn the landmarks again."
        )
    threshold = settings.round_trip_threshold_mm
    if threshold is None:
        threshold = model.round_trip_threshold_mm if model else DEFAULT_THRESHOLD_MM
    get_ready(library, cancelled)
    supports = [support.map for support in library.supports]
    moved = settings.refine and can_be_compared(embedding_map, supports)
    shots, insides = _all_shots(library, with_insides=moved)
    report(progress, 0.1, "Finding landmarks")
    votes = collect_votes(embedding_map, supports, shots, settings.rule, cancelled)
    check_cancelled(cancelled)
    positions, distances = decide(votes, shots, settings.rule)
    report(progress, 0.5, "Checking them on the supports")
    errors = round_trip(embedding_map, supports, shots, positions, cancelled)
    if moved:
        marked = len(library.landmarks) + 6 * len(library.organs)
        ways_back = np.repeat(
            [WAYS_BACK, 1, 0], [len(library.landmarks), 6 * len(library.organs), shots.places - marked]
        )
        later = sub_progress(progress, 0.6, 1.0)
        positions, errors = refine_and_check(
            embedding_map, supports, shots, positions, errors, ways_back, cancelled, later
        )
    boxes = "refined" if moved else settings.rule
    answers = _Answers(embedding_map, boxes, insides, float(threshold), shots, votes, positions, distances, errors)
    points = [answers.point(landmark, place) for place, landmark in enumerate(library.landmarks)]
    organs = [answers.organ(organ, len(library.landmarks) + 6 * n, n) for n, organ in enumerate(library.organs)]
    check_cancelled(cancelled)
    report(progress, 1.0, "Done")
    return Localization(
        tuple(points),
        tuple(organs),
        embedding_map.space,
        embedding_map.spacing,
        embedding_map.scan_name,
        settings.rule,
        float(threshold),
        (
            *embedding_map.notes,
            *_spacing_notes(embedding_map, library),
            *_reference_notes(embedding_map, library),
            *_refinement_notes(settings.refine, moved, supports),
        ),
    )


def _refinement_notes(wanted: bool, done: bool, supports: list[EmbeddingMap]) -> tuple[str, ...]:
    """Says so when places could not be compared by what they look like: they are then less exact."""
    bare = [support.scan_name for support in supports if support.coarse_ct is None]
    if not wanted or (done and not bare):
        return ()
    if not done:
        return (NOT_COMPARED,)
    return (f"The library holds no coarse CT of {', '.join(bare)}: what was learned there alone is less exact.",)


def _spacing_notes(embedding_map: EmbeddingMap, library: LandmarkLibrary) -> tuple[str, ...]:
    """Says so when supports were read at another spacing than the scan: results are then a little less exact."""
    others = sorted({support.map.spacing for support in library.supports} - {embedding_map.spacing})
    if not others:
        return ()
    return (f"The scan was read at {embedding_map.spacing} spacing, supports of the library at {', '.join(others)}.",)


def _reference_notes(embedding_map: EmbeddingMap, library: LandmarkLibrary) -> tuple[str, ...]:
    """Says so when coordinates are compared although it is not known whether they are aligned with the same."""
    references = {embedding_map.space.aligned_with, *(support.space.aligned_with for support in library.supports)}
    if UNKNOWN_REFERENCE not in references or len(references - {None}) < 2:
        return ()
    where = "scan's map" if embedding_map.space.aligned_with == UNKNOWN_REFERENCE else "library"
    return (
        f"The {where} does not say which reference library it was aligned with (an older file). It is taken to be the "
        "same one.",
    )


def _all_shots(library: LandmarkLibrary, with_insides: bool) -> tuple[Shots, list["_Inside"]]:
    """Every shot of the library in a row: a landmark is one place, an organ six, in the library's order.

    With insides, more places follow at the end: those inside the organs' boxes (`inner_points`).
    """
    numbers = {support.id: number for number, support in enumerate(library.supports)}
    rows, insides = [], []
    for place, landmark in enumerate(library.landmarks):
        for shot in landmark.shots:
            rows.append((place, numbers[shot.support_id], shot.position_ras, shot.embedding))
    for number, organ in enumerate(library.organs):
        first = len(library.landmarks) + 6 * number
        for shot in organ.shots:
            for edge, (point, embedding) in enumerate(zip(shot.extreme_points_ras, shot.embeddings, strict=True)):
                rows.append((first + edge, numbers[shot.support_id], point, embedding))
    place = len(library.landmarks) + 6 * len(library.organs)
    for organ in library.organs if with_insides else ():
        walls = np.array([_sides_of(np.array(shot.extreme_points_ras)) for shot in organ.shots])
        maps = [library.support(shot.support_id).map for shot in organ.shots]
        points, positions = inner_points(maps, walls)
        insides.append(_Inside(place, points, np.ptp(walls, axis=1).mean(axis=0) / 2))
        for shot, support, clicks in zip(organ.shots, maps, positions, strict=True):
            embeddings = support.embedding_at(clicks)
            rows += [
                (place + number, numbers[shot.support_id], click, embedding)
                for number, (click, embedding) in enumerate(zip(clicks, embeddings, strict=True))
            ]
        place += len(points)
    place, support, click, embedding = zip(*rows, strict=True)
    return Shots(np.array(place), np.array(support), np.array(click), np.array(embedding)), insides


@dataclass(frozen=True)
class _Inside:
    """Places inside an organ's box: the first of them, where they lie (k, 3) in halves of the box's size from its
    center, and half the mean size (3,) of the box on the supports, mm."""

    first: int
    points: np.ndarray
    half_size: np.ndarray


def _sides_of(edges: np.ndarray) -> np.ndarray:
    """Lower and upper walls (2, 3) of six extreme points (6, 3): each wall from its own point."""
    return np.array([edges[[0, 2, 4], [0, 1, 2]], edges[[1, 3, 5], [0, 1, 2]]])


@dataclass(frozen=True)
class _Answers:
    """What was found, place by place, ready to be told landmark by landmark. `boxes`: how boxes are made."""

    map: EmbeddingMap
    boxes: str
    insides: list[_Inside]
    threshold_mm: float
    shots: Shots
    votes: Votes
    positions: np.ndarray
    distances: np.ndarray
    errors: np.ndarray

    def point(self, landmark: Landmark, place: int) -> LocatedPoint:
        error = float(self.errors[place])
        inside = self.map.field_of_view.contains(self.positions[place], margin=FIELD_OF_VIEW_MARGIN_MM)[0]
        found = bool(error <= self.threshold_mm and inside)
        position = tuple(float(x) for x in self.positions[place])
        return LocatedPoint(
            name=landmark.name,
            found=found,
            position_ras=position if found else None,
            candidate_ras=position,
            round_trip_mm=error,
            distance=float(self.distances[place]),
            reason="" if found else self._reason(self.positions[place], error),
            color=landmark.color,
            code=landmark.code,
            description=landmark.description,
        )

    def organ(self, organ: Organ, first: int, number: int) -> LocatedOrgan:
        six = slice(first, first + 6)
        edges, error = self.positions[six], float(np.median(self.errors[six]))
        if self.boxes == "refined":
            edges = self._with_inside(edges, self.insides[number])
        raw_box = self._box(edges, first, len(organ.shots))
        box = raw_box.enlarged(organ.alpha).clipped(self.map.field_of_view) if raw_box is not None else None
        seen = int((self.errors[six] <= self.threshold_mm).sum())
        found = seen >= MIN_EXTREME_POINTS_FOUND and box is not None
        flat = seen >= MIN_EXTREME_POINTS_FOUND and raw_box is None
        return LocatedOrgan(
            name=organ.name,
            found=found,
            box=box if found else None,
            raw_box=raw_box,
            alpha=organ.alpha,
            volume_ratio=self.map.field_of_view.volume_mm3 / box.volume_mm3 if found else float("nan"),
            round_trip_mm=error,
            distance=float(np.median(self.distances[six])),
            extreme_points_ras=tuple(tuple(float(x) for x in edge) for edge in edges),
            reason="" if found else FLAT if flat else self._reason(edges.mean(axis=0), error),
            color=organ.color,
            code=organ.code,
        )

    def _with_inside(self, edges: np.ndarray, inside: _Inside) -> np.ndarray:
        """Extreme points (6, 3) whose walls also heed the places found inside the box.

        Halfway between the box that the extreme points span and the one fitted to the places inside: they err
        differently, so their mean errs less.
        """
        found = self.positions[inside.first : inside.first + len(inside.points)]
        walls = (_sides_of(edges) + fitted_sides(inside.points, found, inside.half_size)) / 2
        edges = edges.copy()
        for axis in range(3):
            edges[2 * axis : 2 * axis + 2, axis] = walls[:, axis]
        return edges

    def _box(self, edges: np.ndarray, first: int, shots: int) -> Box | None:
        """Box of the six found extreme points; None if they are so inconsistent that no box remains.

        The paper's rule takes the bounding box of the six points that each shot finds, and averages the boxes. The
        robust rule, and every rule after refinement, takes each side from its own extreme point, so that one stray
        point moves one side only.
        """
        if self.boxes == "paper":
            rows = np.flatnonzero((self.shots.place >= first) & (self.shots.place < first + 6))
            boxes = [Box.around(six) for six in self.votes.points_ras[rows, 0].reshape(shots, 6, 3)]
            walls = np.mean([(box.minimum, box.maximum) for box in boxes], axis=0)
        else:
            walls = _sides_of(edges)
        return Box(tuple(walls[0]), tuple(walls[1])) if np.all(walls[1] > walls[0]) else None

    def _reason(self, position: np.ndarray, error: float) -> str:
        view, cell = self.map.field_of_view, spacing_of(self.map.grid_to_ras)
        if position[2] - view.minimum[2] <= 1.5 * cell[2]:
            return "probably below the field of view"
        if view.maximum[2] - position[2] <= 1.5 * cell[2]:
            return "probably above the field of view"
        if not view.contains(position, margin=FIELD_OF_VIEW_MARGIN_MM)[0]:
            return "outside the field of view"
        return f"the scan and the support disagree about it by {error:.0f} mm"
