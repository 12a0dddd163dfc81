"""From shots to places on a scan, and back to the supports.

`paper`: every shot looks up its embedding in the scan's map, and the places are averaged (APE paper, section 3.3).
`robust`: every shot votes once per pass (spacing) with the embedding that its support has there, and the geometric
median of all votes is taken, so that an odd shot or a pass that was led astray moves the answer little. It protects
against a wrong click; among careful clicks it is as exact as the paper's rule, not better.
"""

from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.errors import LocalizationError
from APELocalizerLib.core.progress import CancelCheck, check_cancelled

RULES = ("robust", "paper")

NEIGHBOUR_MM = 25.0
NEIGHBOURHOOD = NEIGHBOUR_MM * np.array(
    [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float64
)
"""Places (7, 3) around a found one that take part in its round trip, mm."""


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
        return int(self.place.max()) + 1


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
        answer = scan_map.nearest(shots.embedding)
        return Votes(answer.points_ras[:, None], answer.distances[:, None])
    count = max(len(_pairs(scan_map, support)) for support in supports)
    points, distances = np.empty((len(shots.click), count, 3)), np.empty((len(shots.click), count))
    for number, support in enumerate(supports):
        rows = np.flatnonzero(shots.support == number)
        pairs = _pairs(scan_map, support)
        check_cancelled(cancelled)
        for vote in range(count):
            found_on, clicked_on = pairs[vote % len(pairs)]
            answer = found_on.nearest(clicked_on.embedding_at(shots.click[rows]))
            points[rows, vote], distances[rows, vote] = answer.points_ras, answer.distances
    return Votes(points, distances)


def decide(votes: Votes, shots: Shots, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 3) RAS mm and embedding distances (n,) of the n places, from the votes of their shots."""
    combine = geometric_median if rule == "robust" else (lambda points: points.mean(axis=0))
    positions, distances = np.empty((shots.places, 3)), np.empty(shots.places)
    for place in range(shots.places):
        mine = shots.place == place
        positions[place] = combine(votes.points_ras[mine].reshape(-1, 3))
        distances[place] = votes.distances[mine].mean()
    return positions, distances


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
    where the map is folded or distorted. Neighbours outside the body do not count.
    """
    errors = np.empty(len(shots.click))
    for number, support in enumerate(supports):
        check_cancelled(cancelled)
        rows = np.flatnonzero(shots.support == number)
        if len(rows):
            errors[rows] = _round_trip_to(scan_map, support, positions[shots.place[rows]], shots.click[rows])
    return np.array([np.median(errors[shots.place == place]) for place in range(shots.places)])


def _round_trip_to(scan_map: EmbeddingMap, support: EmbeddingMap, found: np.ndarray, clicks: np.ndarray) -> np.ndarray:
    around = (found[:, None] + NEIGHBOURHOOD).reshape(-1, 3)
    wanted = (clicks[:, None] + NEIGHBOURHOOD).reshape(-1, 3)
    counts = (scan_map.is_body(around) & support.is_body(wanted)).reshape(-1, len(NEIGHBOURHOOD))
    counts[:, 0] = True
    squared = np.zeros(counts.shape)
    pairs = _pairs(scan_map, support)
    for found_on, clicked_on in pairs:
        back = clicked_on.nearest(found_on.embedding_at(around)).points_ras
        squared += ((back - wanted) ** 2).sum(axis=1).reshape(counts.shape)
    return np.sqrt((squared * counts).sum(axis=1) / (counts.sum(axis=1) * len(pairs)))


def _pairs(scan_map: EmbeddingMap, support: EmbeddingMap) -> list[tuple[EmbeddingMap, EmbeddingMap]]:
    """Maps of scan and support to compare: pass by pass if both were read with the same passes, else as a whole."""
    if scan_map.passes and len(scan_map.passes) == len(support.passes) and scan_map.spacing == support.spacing:
        return list(zip(scan_map.passes, support.passes, strict=True))
    return [(scan_map, support)]


def geometric_median(points: np.ndarray, steps: int = 60) -> np.ndarray:
    """Point (3,) with the least sum of distances to the points (n, 3), by Weiszfeld's iteration."""
    center = points.mean(axis=0)
    for _ in range(steps):
        weight = 1.0 / np.maximum(np.linalg.norm(points - center, axis=1), 1e-6)
        center = (points * weight[:, None]).sum(axis=0) / weight.sum()
    return center
