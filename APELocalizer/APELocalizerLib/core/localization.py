"""Localization: every landmark and organ of a library on one scan, each with a confidence, or "not found".

Positions are RAS world mm. Confidence is the round-trip error in mm (see `retrieval.round_trip`); beyond the
checkpoint's calibrated threshold a landmark counts as not found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.checkpoints import DEFAULT_THRESHOLD_MM, Checkpoint
from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.errors import LocalizationError
from APELocalizerLib.core.geometry import Box
from APELocalizerLib.core.landmark_library import Code, Landmark, LandmarkLibrary, Organ
from APELocalizerLib.core.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.core.retrieval import retrieve, round_trip

FOUND, NOT_FOUND = "found", "not_found"
MIN_EDGES_FOUND = 3
"""An organ is found if at least this many of its six edge points are: the field of view may cut the others."""


@dataclass(frozen=True)
class LocalizationSettings:
    """Retrieval rule ("robust" or "paper") and the threshold in mm (None: the checkpoint's calibrated one)."""

    rule: str = "robust"
    round_trip_threshold_mm: float | None = None


@dataclass(frozen=True)
class LocatedPoint:
    """A landmark on the scan. `position_ras` is None when it was not found; `candidate_ras` is the best guess."""

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

    @property
    def status(self) -> str:
        """ "found" or "not_found"."""
        return FOUND if self.found else NOT_FOUND


@dataclass(frozen=True)
class LocatedOrgan:
    """An organ's box on the scan, enlarged by `alpha` and clipped to the field of view (None when not found).

    `raw_box` is the box before that; `volume_ratio` is the scan's volume divided by the box's (APE paper, Table 4).
    `edge_points_ras` (6, 3) in the library's order, found or not.
    """

    name: str
    found: bool
    box: Box | None
    raw_box: Box | None
    alpha: float
    volume_ratio: float
    round_trip_mm: float
    distance: float
    edge_points_ras: tuple[tuple[float, float, float], ...]
    reason: str
    color: tuple[float, float, float]
    code: Code | None = None

    @property
    def status(self) -> str:
        """ "found" or "not_found"."""
        return FOUND if self.found else NOT_FOUND


@dataclass(frozen=True)
class Localization:
    """All results on one scan."""

    points: tuple[LocatedPoint, ...]
    organs: tuple[LocatedOrgan, ...]
    checkpoint_id: str
    spacing: str
    scan_name: str
    rule: str
    threshold_mm: float
    notes: tuple[str, ...] = ()


def localize(
    embedding_map: EmbeddingMap,
    library: LandmarkLibrary,
    settings: LocalizationSettings | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> Localization:
    """Find every landmark and organ of the library on the scan of the map.

    Raises `LocalizationError` if the library is empty or was learned with another checkpoint, and `Cancelled`.
    """
    settings = settings or LocalizationSettings()
    if not library.entries:
        raise LocalizationError("The library is empty. Learn a landmark on a support scan first, or open a library.")
    if library.checkpoint_id != embedding_map.checkpoint_id:
        raise LocalizationError(
            f"The library was learned with the model {library.checkpoint_id}, but the scan was read with "
            f"{embedding_map.checkpoint_id}. Choose the library's model, or learn the landmarks again."
        )
    threshold = settings.round_trip_threshold_mm
    if threshold is None:
        threshold = checkpoint.round_trip_threshold_mm if checkpoint else DEFAULT_THRESHOLD_MM
    search = _Search(embedding_map, library, settings.rule, float(threshold))
    points = []
    organs = []
    for number, entry in enumerate(library.entries):
        check_cancelled(cancelled)
        report(progress, number / len(library.entries), f"Finding {entry.name}")
        if isinstance(entry, Landmark):
            points.append(search.point(entry))
        else:
            organs.append(search.organ(entry))
    check_cancelled(cancelled)
    report(progress, 1.0, "Done")
    return Localization(
        tuple(points),
        tuple(organs),
        embedding_map.checkpoint_id,
        embedding_map.spacing,
        embedding_map.scan_name,
        settings.rule,
        float(threshold),
        (*embedding_map.notes, *_spacing_notes(embedding_map, library)),
    )


def _spacing_notes(embedding_map: EmbeddingMap, library: LandmarkLibrary) -> tuple[str, ...]:
    """Says so when supports were read at another spacing than the scan: results are then a little less exact."""
    others = sorted({support.map.spacing for support in library.supports} - {embedding_map.spacing})
    if not others:
        return ()
    return (f"The scan was read at {embedding_map.spacing} spacing, supports of the library at {', '.join(others)}.",)


@dataclass(frozen=True)
class _Search:
    """The search for single entries on one map."""

    map: EmbeddingMap
    library: LandmarkLibrary
    rule: str
    threshold_mm: float

    def point(self, landmark: Landmark) -> LocatedPoint:
        embeddings = np.array([[shot.embedding] for shot in landmark.shots])
        clicks = np.array([[shot.position_ras] for shot in landmark.shots])
        positions, distances, errors = self._places(embeddings, clicks, [s.support_id for s in landmark.shots])
        found = bool(errors[0] <= self.threshold_mm)
        position = tuple(float(x) for x in positions[0])
        return LocatedPoint(
            name=landmark.name,
            found=found,
            position_ras=position if found else None,
            candidate_ras=position,
            round_trip_mm=float(errors[0]),
            distance=float(distances[0]),
            reason="" if found else self._reason(positions[0], errors[0]),
            color=landmark.color,
            code=landmark.code,
            description=landmark.description,
        )

    def organ(self, organ: Organ) -> LocatedOrgan:
        embeddings = np.array([shot.embeddings for shot in organ.shots])
        clicks = np.array([shot.edge_points_ras for shot in organ.shots])
        edges, distances, errors = self._places(embeddings, clicks, [s.support_id for s in organ.shots])
        seen = errors <= self.threshold_mm
        raw_box = self._box(edges, embeddings)
        box = raw_box.enlarged(organ.alpha).clipped(self.map.field_of_view) if raw_box is not None else None
        found = bool(seen.sum() >= MIN_EDGES_FOUND and box is not None)
        ratio = self.map.field_of_view.volume_mm3 / box.volume_mm3 if found else float("nan")
        return LocatedOrgan(
            name=organ.name,
            found=found,
            box=box if found else None,
            raw_box=raw_box,
            alpha=organ.alpha,
            volume_ratio=ratio,
            round_trip_mm=float(np.median(errors)),
            distance=float(np.median(distances)),
            edge_points_ras=tuple(tuple(float(x) for x in edge) for edge in edges),
            reason="" if found else self._reason(edges.mean(axis=0), float(np.median(errors))),
            color=organ.color,
            code=organ.code,
        )

    def _places(
        self, embeddings: np.ndarray, clicks: np.ndarray, support_ids: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        positions, distances = retrieve(self.map, embeddings, self.rule)
        supports = [self.library.support(support_id).map for support_id in support_ids]
        return positions, distances, round_trip(self.map, positions, supports, clicks)

    def _box(self, edges: np.ndarray, embeddings: np.ndarray) -> Box | None:
        """Box of the six found edge points; None if they are so inconsistent that no box remains.

        The paper's rule takes the bounding box of the six points that each shot (n, 6, 3) finds, and averages the
        boxes. The robust rule takes each wall from its own edge point, so that one stray point moves one wall only.
        """
        if self.rule == "paper":
            boxes = [Box.around(self.map.nearest(shot).points_ras) for shot in embeddings]
            walls = np.mean([(box.minimum, box.maximum) for box in boxes], axis=0)
            box = Box(tuple(walls[0]), tuple(walls[1]))
        else:
            low, high = edges[[0, 2, 4], [0, 1, 2]], edges[[1, 3, 5], [0, 1, 2]]
            if np.any(high - low <= 0):
                return None
            box = Box(tuple(low), tuple(high))
        return box if np.all(box.size > 0) else None

    def _reason(self, position: np.ndarray, error: float) -> str:
        view = self.map.field_of_view
        cell = np.abs(self.map.grid_to_ras[:3, :3]).max(axis=1)
        below, above = position - np.array(view.minimum), np.array(view.maximum) - position
        side = min(
            (below[2] / cell[2], "below"), (above[2] / cell[2], "above"), key=lambda each: each[0]
        )
        if side[0] <= 1.5:
            return f"probably {side[1]} the field of view"
        return f"the scan and the support disagree about it by {error:.0f} mm"
