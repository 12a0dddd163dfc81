"""From the shots of queries to positions on a scan, and back to the supports: by coordinates alone.

`paper`: every shot looks up its embedding in the scan's map, and the positions are averaged (APE paper, section 3.3).
`robust`: every shot votes once per pass (spacing) with the embedding that its support has there, and the geometric
median of all votes is taken, so that an outlying shot or pass moves the answer little. It protects
against a wrong click; among careful clicks it is as exact as the paper's rule, not better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.errors import LocalizationError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap, Nearest, nearest_on_each
from APELocalizerLib.core.localization.confidence import Signals
from APELocalizerLib.core.localization.queries import Shots

RULES = ("robust", "paper")
"""Names of the retrieval rules."""

NEIGHBOR_MM = 25.0
"""Distance from a found position to the six around it that take part in its round trip."""

NEIGHBORHOOD = NEIGHBOR_MM * np.array(
    [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64
)
"""Steps (7, 3) mm from a found position to the positions that take part in its round trip: itself and six around."""

SHOTS_PER_BLOCK = 4096
"""Shots whose round trips are made together, so that memory does not grow with the library."""


@dataclass(frozen=True)
class Votes:
    """Where every shot puts its query: `points_ras` (m, v, 3) mm and `distances` (m, v), v votes per shot."""

    points_ras: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True, eq=False)
class Located:
    """Where n queries were found on a scan, and what their `shots` voted for.

    `positions` (n, 3) RAS mm, `distances` (n,) between the embedding looked up and the one met, `round_trip_mm` (n,).
    `signals` tell how far off they may be; None if they were not refined.
    """

    shots: Shots
    votes: Votes
    positions: np.ndarray
    distances: np.ndarray
    round_trip_mm: np.ndarray
    signals: Signals | None = None

    def votes_of(self, query: int) -> np.ndarray:
        """Positions (shots, 3) RAS mm for which the shots of a query voted first."""
        return self.votes.points_ras[self.shots.rows_of(query), 0]


def find_by_coordinates(
    scan_map: EmbeddingMap,
    supports: Sequence[EmbeddingMap],
    shots: Shots,
    rule: str,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> Located:
    """Where the scan has the embeddings of the queries' shots, and how far from the supports' clicks a round trip ends.

    Raises `LocalizationError` for an unknown rule (see `RULES`), or `Cancelled`.
    """
    votes = collect_votes(scan_map, supports, shots, rule, cancelled)
    check_cancelled(cancelled)
    positions, distances = decide(votes, shots, rule)
    report(progress, 0.8, "Verifying on the support scans")
    round_trip_mm = round_trip(scan_map, supports, shots, positions, cancelled)
    return Located(shots, votes, positions, distances, round_trip_mm)


def collect_votes(
    scan_map: EmbeddingMap,
    supports: Sequence[EmbeddingMap],
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
        for vote, (on_scan, on_support) in enumerate(_pairs(scan_map, support)):
            rows_of.append((rows, slice(vote, None, len(_pairs(scan_map, support)))))
            searches.append((on_scan, on_support.embedding_at(shots.click[rows])))
    points, distances = np.empty((len(shots.click), count, 3)), np.empty((len(shots.click), count))
    for (rows, votes), answer in zip(rows_of, nearest_on_each(searches, cancelled), strict=True):
        points[rows, votes], distances[rows, votes] = answer.points_ras[:, None], answer.distances[:, None]
    return Votes(points, distances)


def decide(votes: Votes, shots: Shots, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 3) RAS mm and embedding distances (n,) of the n queries, from the votes of their shots."""
    count = votes.distances.shape[1]
    points, distances = votes.points_ras[shots.order].reshape(-1, 3), votes.distances[shots.order].reshape(-1)
    combine = geometric_medians if rule == "robust" else _means
    return combine(points, shots.starts * count), _means(distances, shots.starts * count)


def round_trip(
    scan_map: EmbeddingMap,
    supports: Sequence[EmbeddingMap],
    shots: Shots,
    positions: np.ndarray,
    cancelled: CancelCheck | None = None,
) -> np.ndarray:
    """Round trip (n,) mm of the n queries found at `positions` (n, 3): the median over their shots.

    The position and six positions 25 mm around it are looked up again in the support's map, in every pass by itself;
    the root mean square distance from where they should lie (the click, and the same six positions around it) says how
    well the two scans agree. It is large when the landmark is outside the field of view, where passes disagree, and
    where the map is folded or distorted. Neighbors outside the body do not count.
    """
    apart = np.empty(len(shots.click))
    for start in range(0, len(apart), SHOTS_PER_BLOCK):
        block = np.arange(start, min(start + SHOTS_PER_BLOCK, len(apart)))
        checks = []
        for number in np.unique(shots.support[block]):
            rows = block[shots.support[block] == number]
            checks.append(_Check(scan_map, supports[number], rows, positions[shots.query[rows]], shots.click[rows]))
        answers = iter(nearest_on_each([search for check in checks for search in check.searches], cancelled))
        for check in checks:
            apart[check.rows] = check.apart([next(answers) for _ in check.searches])
    return medians(apart[shots.order], shots.starts)


class _Check:
    """Round trips of the shots `rows` (n,) on one support, from `positions` (n, 3) on the scan back to the `clicks`."""

    def __init__(
        self,
        scan_map: EmbeddingMap,
        support: EmbeddingMap,
        rows: np.ndarray,
        positions: np.ndarray,
        clicks: np.ndarray,
    ) -> None:
        around = (positions[:, None] + NEIGHBORHOOD).reshape(-1, 3)
        self.rows = rows
        self.wanted = (clicks[:, None] + NEIGHBORHOOD).reshape(-1, 3)
        self.counts = (scan_map.is_body(around) & support.is_body(self.wanted)).reshape(-1, len(NEIGHBORHOOD))
        self.counts[:, 0] = True
        pairs = _pairs(scan_map, support)
        self.searches = [(on_support, on_scan.embedding_at(around)) for on_scan, on_support in pairs]

    def apart(self, answers: list[Nearest]) -> np.ndarray:
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
