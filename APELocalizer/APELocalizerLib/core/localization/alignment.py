"""Aligning a scan's coordinates with the average patient, by landmarks that are known.

The coordinates of a patient whom the network has not seen are off by a few centimeters, and by about the same in all
of a region: scans are read as if they were shifted and stretched. The landmarks of a reference library, each known
from several patients, are found more exactly than that, for the image around them is compared (`matching`).
Where they are found, the coordinates should be theirs; a smooth field through the differences (a Gaussian process,
robust against landmarks that were mistaken) is subtracted from the scan's coordinates, for every later search on the
scan and for what is learned on it. The model card says what that gains.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.base.progress import CancelCheck
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.core.library.built_in import built_in_library_path, library_file
from APELocalizerLib.core.library.entries import Point
from APELocalizerLib.core.library.files import load_library
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.matching import refine_known
from APELocalizerLib.core.localization.neighborhoods import STAGES
from APELocalizerLib.core.localization.queries import Shots

if TYPE_CHECKING:
    from APELocalizerLib.core.localization.neighborhoods import Templates

ROUNDS = 3
"""How often the landmarks are sought and the field is fitted, each time from where the field before points."""

FITS = 4
"""How often the field is fitted to the found landmarks, down-weighting outliers more each time."""

SMOOTH_MM, SPREAD_MM, NOISE_MM = 300.0, 20.0, 15.0
"""Of the field: how far it takes to change, how large it is, and how far off a single landmark may be; mm."""

MISTAKEN_MM = 25.0
"""A landmark this far from what the others say counts half, and less the farther."""

NEAR_MM = 12.0
"""A landmark counts if the map has its coordinates, to within this distance; beyond, it lies out of view."""

MARGIN_MM = 8.0
"""A landmark counts if it lies at least this far inside the field of view: at its border others pile up."""

FEWEST = 4
"""Landmarks needed; with fewer the coordinates stay as they are."""

Field = Callable[[np.ndarray], np.ndarray]
"""What the coordinates (n, 3) of the average patient are off by on a scan: (n, 3) mm."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Landmarks that are known on several patients, and so what their coordinates should be."""

    library: LandmarkLibrary

    @classmethod
    def of_file(cls, name_or_path: str | Path) -> "Reference":
        """The landmarks of a library file, or of the built-in library for its name. Raises `LibraryError`."""
        return cls(load_library(library_file(name_or_path)))

    def check(self) -> None:
        """Raise `LibraryError` if nothing can be aligned with it."""
        if self.landmarks < FEWEST:
            raise LibraryError(
                f"Coordinates can only be aligned with a library that holds {FEWEST} landmarks with a coarse CT; "
                f"this one holds {self.landmarks}."
            )

    def get_ready(self) -> None:
        """Make now what the first alignment would make."""
        if self.landmarks >= FEWEST:
            _ = self.templates, self.coordinates

    @property
    def landmarks(self) -> int:
        """How many landmarks there are, on supports with a coarse CT."""
        return len({row[0] for row in self._rows})

    @cached_property
    def _rows(self) -> list[tuple[int, int, Point, Point]]:
        """Landmark, support, position and embedding of every shot on a support with a coarse CT."""
        numbers = {support.id: number for number, support in enumerate(self.library.supports) if support.coarse_ct}
        shots = [[s for s in landmark.shots if s.support_id in numbers] for landmark in self.library.landmarks]
        return [
            (number, numbers[shot.support_id], shot.position_ras, shot.embedding)
            for number, shots_of_landmark in enumerate(filter(None, shots))
            for shot in shots_of_landmark
        ]

    @cached_property
    def shots(self) -> Shots:
        """All shots of all landmarks, on supports with a coarse CT."""
        landmark, support, click, embedding = zip(*self._rows, strict=True)
        return Shots(np.array(landmark), np.array(support), np.array(click), np.array(embedding))

    @cached_property
    def templates(self) -> "list[Templates]":
        """The image around the landmarks' clicks, for every stage of the matching."""
        from APELocalizerLib.core.localization.neighborhoods import Templates

        maps, shots = [support.map for support in self.library.supports], self.shots
        coarse_cts = {number: one.coarse_ct for number, one in enumerate(maps) if one.coarse_ct is not None}
        clicks = shots.query, shots.support, shots.click
        return [Templates(coarse_cts, shots.queries, *clicks, stage) for stage in STAGES]

    @cached_property
    def digest(self) -> str:
        """Short name of exactly these shots on exactly these coarse CTs, whatever they are called."""
        digest = hashlib.sha256(str(self.library.model_id).encode())
        for support in self.library.supports:
            digest.update(support.coarse_ct.encode() + b"\n")
        for landmark, number, position, embedding in self._rows:
            digest.update(np.array([landmark, number, *position, *embedding], dtype="<f8").tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def space(self) -> CoordinateSpace:
        """Of coordinates that are aligned with it: those that its own supports are aligned with, if they are.

        So a library that was learned on aligned scans passes its reference on, also when it has grown.
        """
        space = self.library.space
        if space is not None and space.aligned:
            return space
        return CoordinateSpace(str(self.library.model_id), self.digest)

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Coordinates (n, 3) mm of the landmarks: the mean of their shots."""
        total = np.zeros((self.shots.queries, 3))
        np.add.at(total, self.shots.query, self.shots.embedding)
        return total / np.bincount(self.shots.query)[:, None]


def built_in_reference(model_id: str) -> Reference | None:
    """The built-in library's landmarks, if it was learned with the model; None if it was not, or is not installed.

    Raises `LibraryError` if it is damaged. An engine reads it once and keeps it (`app.memory`).
    """
    path = built_in_library_path()
    reference = None if path is None else Reference(load_library(path))
    return reference if reference is not None and reference.library.model_id == model_id else None


def align(embedding_map: EmbeddingMap, reference: Reference, cancelled: CancelCheck | None = None) -> EmbeddingMap:
    """The map with its coordinates aligned; the same map if too few of the reference's landmarks are in view.

    Raises `Cancelled`.
    """
    coarse_ct = embedding_map.coarse_ct
    if coarse_ct is None or reference.landmarks < FEWEST:
        return embedding_map
    field = _field_of(embedding_map, coarse_ct, reference, cancelled)
    return embedding_map if field is None else _without(embedding_map, field, reference.space)


def _field_of(
    embedding_map: EmbeddingMap, coarse_ct: CoarseCT, reference: Reference, cancelled: CancelCheck | None
) -> Field | None:
    """What the map is off by; None if too few landmarks are in view to know."""
    wanted, view, field = reference.coordinates, embedding_map.field_of_view, None
    for _ in range(ROUNDS):
        start = embedding_map.nearest(wanted if field is None else wanted + field(wanted))
        near = start.distances <= NEAR_MM
        known = np.flatnonzero(near & view.contains(start.points_ras, margin=-MARGIN_MM))
        if len(known) < FEWEST:
            return None
        positions = refine_known(coarse_ct, reference.templates, known, start.points_ras[known], cancelled)
        field = _smooth(wanted[known], embedding_map.embedding_at(positions) - wanted[known])
    return field


def _smooth(coordinates: np.ndarray, off: np.ndarray) -> Field:
    """A smooth field through differences (n, 3) mm at coordinates (n, 3), that down-weights outliers."""
    covariance = _covariance(coordinates, coordinates)
    noise = np.full(len(off), NOISE_MM**2)
    for _ in range(FITS):
        weights = np.linalg.solve(covariance + np.diag(noise), off)
        away = np.linalg.norm(off - covariance @ weights, axis=1)
        noise = NOISE_MM**2 * np.maximum(1.0, (away / MISTAKEN_MM) ** 2)
    return lambda at: _covariance(at, coordinates) @ weights


def _covariance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Covariance (n, m) mm^2 of the field at coordinates (n, 3) and (m, 3)."""
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2.0 * first @ second.T
    return SPREAD_MM**2 * np.exp(-0.5 / SMOOTH_MM**2 * squared)


def _without(embedding_map: EmbeddingMap, field: Field, space: CoordinateSpace) -> EmbeddingMap:
    """The map and all its passes without what they are off by; they are then of the given space."""
    if embedding_map.passes:
        aligned = mean_of_passes([_without(one_pass, field, space) for one_pass in embedding_map.passes])
        return aligned.with_coarse_ct(embedding_map.coarse_ct)
    values, body = embedding_map.values.copy(), embedding_map.body
    raw = values[body].astype(np.float64)
    true = raw - field(raw)
    values[body] = raw - field(true)  # the field is one of true coordinates; nearly so after one step
    return replace(embedding_map, values=values, space=space)
