"""From shots to places on a scan, and back to the supports.

`paper`: every shot looks up its embedding in the scan's map, and the places are averaged (APE paper, section 3.3).
`robust`: every shot votes once per pass (spacing) with the embedding that its support has there, and the geometric
median of all votes is taken, so that an odd shot or a pass that was led astray moves the answer little. It protects
against a wrong click; among careful clicks it is as exact as the paper's rule, not better.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from APELocalizerLib.core.base.errors import LocalizationError
from APELocalizerLib.core.base.progress import CancelCheck
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap, Nearest, nearest_on_each

RULES = ("robust", "paper")

NEIGHBOUR_MM = 25.0
NEIGHBOURHOOD = NEIGHBOUR_MM * np.array(
    [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64
)
"""Places (7, 3) around a found one that take part in its round trip, mm."""

SHOTS_PER_BLOCK = 4096
"""Shots whose round trips are made together, so that memory does not grow with the library."""


@dataclass(frozen=True)
class Shots:
    """All shots of a library in a row, so that they are looked up together.

    `place` (m,) tells which place each shot is of, `support` (m,) which support it was clicked on; `click` (m, 3) RAS
    mm there, `embedding` (m, 3).
    """

    place: np.ndarray
    support: np.ndarray
    click: np.ndarray
    embedding: np.ndarray

    @property
    def places(self) -> int:
        """Number of places."""
        return len(self.starts)

    @cached_property
    def order(self) -> np.ndarray:
        """Numbers (m,) of the shots, place by place."""
        return np.argsort(self.place, kind="stable")

    @cached_property
    def starts(self) -> np.ndarray:
        """Where in `order` each place's shots start, (places,)."""
        return np.searchsorted(self.place[self.order], np.arange(int(self.place.max()) + 1))


@dataclass(frozen=True)
class Votes:
    """Where each shot would put its place: `points_ras` (m, v, 3) mm and `distances` (m, v), v votes per shot."""

    points_ras: np.ndarray
    distances: np.ndarray


def collect_votes(
    scan_map: EmbeddingMap,
    supports: list[EmbeddingMap],
    shots: Shots,
    rule: str,
    cancelled: CancelCheck | None = None,
) -> Votes:
    """Look up every shot on the scan; raises `LocalizationError` for an unknown rule (see `RULES`), or `Cancelled`."""
    if rule not in RULES:
        raise LocalizationError(f'There is no retrieval rule "{rule}". Choose one of: {", ".join(RULES)}.')
    if rule == "paper":
        answer = nearest_on_each([(scan_map, shots.embedding)], cancelled)[0]
        return Votes(answer.points_ras[:, None], answer.distances[:, None])
    count = max(len(_pairs(scan_map, support)) for support in supports)
    rows_of, searches = [], []
    for number, support in enumerate(supports):
        rows = np.flatnonzero(shots.support == number)
        for vote, (found_on, clicked_on) in enumerate(_pairs(scan_map, support)):
            rows_of.append((rows, slice(vote, None, len(_pairs(scan_map, support)))))
            searches.append((found_on, clicked_on.embedding_at(shots.click[rows])))
    points, distances = np.empty((len(shots.click), count, 3)), np.empty((len(shots.click), count))
    for (rows, votes), answer in zip(rows_of, nearest_on_each(searches, cancelled), strict=True):
        points[rows, votes], distances[rows, votes] = answer.points_ras[:, None], answer.distances[:, None]
    return Votes(points, distances)


def decide(votes: Votes, shots: Shots, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 3) RAS mm and embedding distances (n,) of the n places, from the votes of their shots."""
    count = votes.distances.shape[1]
    points, distances = votes.points_ras[shots.order].reshape(-1, 3), votes.distances[shots.order].reshape(-1)
    combine = geometric_medians if rule == "robust" else _means
    return combine(points, shots.starts * count), _means(distances, shots.starts * count)


def round_trip(
    scan_map: EmbeddingMap,
    supports: list[EmbeddingMap],
    shots: Shots,
    positions: np.ndarray,
    cancelled: CancelCheck | None = None,
) -> np.ndarray:
    """Round-trip error (n,) mm of the n places found at `positions` (n, 3): the median over their shots.

    The found place and six places 25 mm around it are looked up again in the support's map, in every pass by itself;
    the root mean square distance from where they should lie (the click, and the same six places around it) tells how
    well the two scans agree. It is large when the landmark is outside the field of view, where passes disagree, and
    where the map is folded or distorted. Neighbors outside the body do not count.
    """
    errors = np.empty(len(shots.click))
    for start in range(0, len(errors), SHOTS_PER_BLOCK):
        block = np.arange(start, min(start + SHOTS_PER_BLOCK, len(errors)))
        checks = []
        for number in np.unique(shots.support[block]):
            rows = block[shots.support[block] == number]
            checks.append(_Check(scan_map, supports[number], rows, positions[shots.place[rows]], shots.click[rows]))
        answers = iter(nearest_on_each([each for check in checks for each in check.searches], cancelled))
        for check in checks:
            errors[check.rows] = check.errors([next(answers) for _ in check.searches])
    return medians(errors[shots.order], shots.starts)


class _Check:
    """Round trips of the shots `rows` (n,) on one support, from the places `found` (n, 3) back to the `clicks`."""

    def __init__(self, scan_map, support: EmbeddingMap, rows: np.ndarray, found: np.ndarray, clicks: np.ndarray):
        around = (found[:, None] + NEIGHBOURHOOD).reshape(-1, 3)
        self.rows = rows
        self.wanted = (clicks[:, None] + NEIGHBOURHOOD).reshape(-1, 3)
        self.counts = (scan_map.is_body(around) & support.is_body(self.wanted)).reshape(-1, len(NEIGHBOURHOOD))
        self.counts[:, 0] = True
        pairs = _pairs(scan_map, support)
        self.searches = [(clicked_on, found_on.embedding_at(around)) for found_on, clicked_on in pairs]

    def errors(self, answers: list[Nearest]) -> np.ndarray:
        """Root mean square distance (n,) mm over passes and neighbors."""
        squared = sum(((back.points_ras - self.wanted) ** 2).sum(axis=1) for back in answers)
        squared = squared.reshape(self.counts.shape) * self.counts
        return np.sqrt(squared.sum(axis=1) / (self.counts.sum(axis=1) * len(answers)))


def _pairs(scan_map: EmbeddingMap, support: EmbeddingMap) -> list[tuple[EmbeddingMap, EmbeddingMap]]:
    """Maps of scan and support to compare: pass by pass if both were read with the same passes, else as a whole."""
    if scan_map.passes and len(scan_map.passes) == len(support.passes) and scan_map.spacing == support.spacing:
        return list(zip(scan_map.passes, support.passes, strict=True))
    return [(scan_map, support)]


def geometric_median(points: np.ndarray, steps: int = 60) -> np.ndarray:
    """Point (3,) with the least sum of distances to the points (n, 3), by Weiszfeld's iteration."""
    return geometric_medians(points, np.array([0]), steps)[0]


def geometric_medians(points: np.ndarray, starts: np.ndarray, steps: int = 60) -> np.ndarray:
    """Geometric median (k, 3) of each group of points (n, 3); group i goes from `starts[i]` to the next group."""
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(points)))
    centers = _means(points, starts)
    for _ in range(steps):
        weight = 1.0 / np.maximum(np.linalg.norm(points - centers[group], axis=1), 1e-6)
        centers = np.add.reduceat(points * weight[:, None], starts) / np.add.reduceat(weight, starts)[:, None]
    return centers


def _means(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Mean of each group of values (n, ...)."""
    counts = np.diff(starts, append=len(values))
    return (np.add.reduceat(values, starts).T / counts).T


def medians(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Median (k,) of each group of values (n,)."""
    counts = np.diff(starts, append=len(values))
    rising = values[np.lexsort((values, np.repeat(np.arange(len(starts)), counts)))]
    return (rising[starts + (counts - 1) // 2] + rising[starts + counts // 2]) / 2
