"""Queries: everything that is looked up on a scan for the landmarks and organs of a library. Positions are RAS mm."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from APELocalizerLib.core.library.entries import Landmark, Organ
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.boxes import inner_points, sides_of

LANDMARK, EXTREME_POINT, INNER_POINT = "landmark", "extreme point", "inner point"
"""Kinds of queries: a landmark; one of an organ's six extreme points; a position inside an organ's box."""

LANDMARK_ROUND_TRIPS = 3
"""Shots of a landmark whose round trip is repeated with the image: the median of three is steady, and ten cost time."""


class Click(NamedTuple):
    """One shot of a query: the number of the support in its library, the position (3,) there, its embedding (3,)."""

    support: int
    position: Sequence[float] | np.ndarray
    embedding: Sequence[float] | np.ndarray


@dataclass(frozen=True, eq=False)
class Query:
    """One thing looked up on a scan, for the landmark or organ `name`.

    `round_trips`: of at most so many shots the round trip is repeated with the image. `in_box` (3,): where an inner
    point lies, in halves of the box's size from its center.
    """

    name: str
    kind: str
    clicks: tuple[Click, ...]
    round_trips: int
    in_box: np.ndarray | None = None


def queries_of(library: LandmarkLibrary, inner: bool) -> list[Query]:
    """What is looked up for every landmark and organ of the library: one query for a landmark, six for an organ.

    With `inner`, also the positions inside each organ's box by which it is located, too (`boxes.inner_points`).
    """
    numbers = {support.id: number for number, support in enumerate(library.supports)}
    queries = [_of_landmark(landmark, numbers) for landmark in library.landmarks]
    for organ in library.organs:
        queries += _of_extreme_points(organ, numbers)
    for organ in library.organs if inner else ():
        queries += _of_inner_points(organ, library, numbers)
    return queries


def _of_landmark(landmark: Landmark, numbers: dict[str, int]) -> Query:
    clicks = (Click(numbers[shot.support_id], shot.position_ras, shot.embedding) for shot in landmark.shots)
    return Query(landmark.name, LANDMARK, tuple(clicks), LANDMARK_ROUND_TRIPS)


def _of_extreme_points(organ: Organ, numbers: dict[str, int]) -> list[Query]:
    supports = [numbers[shot.support_id] for shot in organ.shots]
    positions = zip(*(shot.extreme_points_ras for shot in organ.shots), strict=True)
    embeddings = zip(*(shot.embeddings for shot in organ.shots), strict=True)
    return [
        Query(organ.name, EXTREME_POINT, tuple(map(Click, supports, points, values)), 1)
        for points, values in zip(positions, embeddings, strict=True)
    ]


def _of_inner_points(organ: Organ, library: LandmarkLibrary, numbers: dict[str, int]) -> list[Query]:
    supports = [numbers[shot.support_id] for shot in organ.shots]
    maps = [library.supports[number].map for number in supports]
    in_box, positions = inner_points(maps, np.array([sides_of(shot.extreme_points_ras) for shot in organ.shots]))
    embeddings = np.array([support.embedding_at(points) for support, points in zip(maps, positions, strict=True)])
    return [
        Query(organ.name, INNER_POINT, tuple(map(Click, supports, positions[:, n], embeddings[:, n])), 0, inner_point)
        for n, inner_point in enumerate(in_box)
    ]


@dataclass(frozen=True)
class Shots:
    """All shots of all queries in a row, so that they are looked up together.

    `query` (m,) is the number of the query that each shot belongs to, `support` (m,) the number of the support that it
    was clicked on; `click` (m, 3) RAS mm there, `embedding` (m, 3).
    """

    query: np.ndarray
    support: np.ndarray
    click: np.ndarray
    embedding: np.ndarray

    @classmethod
    def of(cls, queries: Iterable[Query]) -> "Shots":
        """The shots of the queries, query by query; there must be at least one."""
        rows = [(number, *click) for number, query in enumerate(queries) for click in query.clicks]
        query, support, click, embedding = zip(*rows, strict=True)
        return cls(np.array(query), np.array(support), np.array(click), np.array(embedding))

    @property
    def queries(self) -> int:
        """Number of queries."""
        return len(self.starts)

    @cached_property
    def order(self) -> np.ndarray:
        """Rows (m,) of the shots, query by query."""
        return np.argsort(self.query, kind="stable")

    @cached_property
    def starts(self) -> np.ndarray:
        """Where in `order` each query's shots start, (queries,)."""
        return np.searchsorted(self.query[self.order], np.arange(int(self.query.max()) + 1))

    def rows_of(self, query: int) -> np.ndarray:
        """Rows of one query's shots."""
        start, *end = self.starts[query : query + 2]
        return self.order[start : end[0] if end else None]
