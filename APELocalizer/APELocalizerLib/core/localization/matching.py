"""Refining found positions by the image: the surroundings of the clicks are sought near where the embeddings point.

For every query, the neighborhoods of its clicks on the supports (cubes of features) are compared with the scan at all
steps of a cell within a few centimeters, by their mean squared difference under a Gaussian weight; the costs of all
supports are averaged, a quadratic prior keeps the answer near the embedding's, and the likely steps are averaged.
First coarse (cells of 10 mm, neighborhoods of 12 cm), then fine (5 mm, 5 cm).
Block matching of this kind is how registration finds correspondences (deeds: Heinrich et al., IEEE TMI 2013); here the
embedding replaces its global search. A position whose round trip does not lead back to the click is moved part of the
way only: the image may match at the wrong position.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from APELocalizerLib.core.base.parallel import parallel_for, worker_count
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, sub_progress
from APELocalizerLib.core.base.torch_threads import one_thread_each
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap, nearest_on_each
from APELocalizerLib.core.localization.confidence import Signals
from APELocalizerLib.core.localization.neighborhoods import STAGES, Stage
from APELocalizerLib.core.localization.queries import Shots
from APELocalizerLib.core.localization.votes import medians

if TYPE_CHECKING:
    from APELocalizerLib.core.localization.neighborhoods import Templates

TRUSTED_MM = 30.0
"""Distance between click and return at which a position is moved half the way only, if the scan's coordinates are
aligned: a match that does not lead back is then trusted less than they are. Other coordinates are worse than that."""

QUERIES_PER_BLOCK = (8, 256)
"""Least and most queries that a thread works on together: fewer cost more per query, more take 9 MB per 100."""


def can_be_compared(scan: EmbeddingMap, supports: list[EmbeddingMap]) -> bool:
    """Whether the scan and at least one support hold their coarse CT."""
    return scan.coarse_ct is not None and any(support.coarse_ct is not None for support in supports)


def refine_and_check(
    scan: EmbeddingMap,
    supports: list[EmbeddingMap],
    shots: Shots,
    positions: np.ndarray,
    round_trip_mm: np.ndarray,
    round_trips: np.ndarray,
    cancelled: CancelCheck | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray, Signals]:
    """Refined positions (n, 3) RAS mm of n queries, their round trips (n,) mm, and what tells how far off they may be.

    `positions` and `round_trip_mm` are what the coordinates say (`votes.find_by_coordinates`). A position is not moved
    out of the field of view. The round trip is repeated from the refined position on at most `round_trips` (n,)
    supports that have a coarse CT, in the same manner (coordinates, then image). The result is the root mean square of
    the coordinates' round trip, which tells whether the position is in view at all, and of the distance between click
    and return (median over these shots), which tells how exact it is; without a second round trip, the former alone.
    Where coordinates are aligned, the larger that distance, the less the position is moved (`TRUSTED_MM`).
    """
    coarse_cts = [support.coarse_ct for support in supports]
    here = np.zeros(len(positions), dtype=int)
    refined, spread_mm = refine(
        [scan.coarse_ct], here, coarse_cts, shots.query, shots.support, shots.click, positions, cancelled,
        progress=sub_progress(progress, 0.0, 0.5),
    )  # fmt: skip
    inside = scan.field_of_view.contains(refined)
    refined[~inside] = positions[~inside]
    checked = _some_shots(shots, round_trips, np.array([coarse_ct is not None for coarse_ct in coarse_cts]))
    returned = _back_on_supports(scan, supports, checked, refined, cancelled, sub_progress(progress, 0.5, 1.0))
    back, starts = np.unique(checked.query, return_index=True)  # queries whose shots follow each other
    apart = medians(np.linalg.norm(returned - checked.click, axis=1), starts)
    image_mm = np.full(len(positions), np.nan)
    image_mm[back] = apart
    signals = Signals(round_trip_mm, image_mm, spread_mm)
    round_trip_mm = round_trip_mm.copy()
    round_trip_mm[back] = np.sqrt((round_trip_mm[back] ** 2 + apart**2) / 2)
    if scan.space.aligned:
        trust = 1.0 / (1.0 + (apart / TRUSTED_MM) ** 2)[:, None]
        refined[back] = positions[back] + trust * (refined[back] - positions[back])
    return refined, round_trip_mm, signals


def _some_shots(shots: Shots, most: np.ndarray, usable: np.ndarray) -> Shots:
    """At most `most` (n,) shots of each query, spread evenly over the library's `usable` supports, query by query."""
    kept = []
    for rows, wanted in zip(np.split(shots.order, shots.starts[1:]), most, strict=True):
        rows = rows[usable[shots.support[rows]]]
        kept += list(rows[np.unique(np.linspace(0, len(rows) - 1, wanted if len(rows) else 0).round().astype(int))])
    return Shots(shots.query[kept], shots.support[kept], shots.click[kept], shots.embedding[kept])


def _back_on_supports(
    scan: EmbeddingMap,
    supports: list[EmbeddingMap],
    shots: Shots,
    positions: np.ndarray,
    cancelled: CancelCheck | None,
    progress: Progress | None,
) -> np.ndarray:
    """Where the shots' clicks are found on their supports, coming back from the positions (n, 3): (m, 3) RAS mm."""
    back, embeddings = np.empty((len(shots.query), 3)), scan.embedding_at(positions)
    rows_of = {number: np.flatnonzero(shots.support == number) for number in np.unique(shots.support)}
    searches = [(supports[number], embeddings[shots.query[rows]]) for number, rows in rows_of.items()]
    for rows, answer in zip(rows_of.values(), nearest_on_each(searches, cancelled), strict=True):
        back[rows] = answer.points_ras
    coarse_cts, number = [support.coarse_ct for support in supports], np.arange(len(back))
    start, here = positions[shots.query], np.zeros(len(back), dtype=int)
    returned, _ = refine(
        coarse_cts, shots.support, [scan.coarse_ct], number, here, start, back, cancelled, progress=progress
    )
    return returned


def refine(
    scans: Sequence[CoarseCT | None],
    scan: np.ndarray,
    supports: Sequence[CoarseCT | None],
    query: np.ndarray,
    support: np.ndarray,
    clicks: np.ndarray,
    start: np.ndarray,
    cancelled: CancelCheck | None = None,
    stages: tuple[Stage, ...] = STAGES,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 3) RAS mm of n queries, moved from `start` (n, 3) to where the image matches their clicks; and how
    far apart the likely steps of the last stage lie, (n,) mm, NaN where nothing was compared.

    `scan` (n,) is the number of the scan that a query is sought on; `query` (m,) and `support` (m,) are the query that
    a click belongs to and the support that it was made on; `clicks` (m, 3) RAS mm there. A position stays where it is
    if its scan or all its supports lack a coarse CT, or nothing comparable is near.
    """
    from APELocalizerLib.core.localization.neighborhoods import (  # PyTorch only when there is work
        Templates,
        displacements,
    )

    positions, spread_mm = np.array(start, dtype=np.float64), np.full(len(start), np.nan)
    on_scans = {number: coarse_ct for number, coarse_ct in enumerate(scans) if coarse_ct is not None}
    on_supports = {number: coarse_ct for number, coarse_ct in enumerate(supports) if coarse_ct is not None}
    comparable = np.array([number in on_scans for number in scan], dtype=bool)[query]
    comparable &= np.array([number in on_supports for number in support], dtype=bool)
    rows = np.flatnonzero(comparable)
    rows = rows[np.argsort(query[rows], kind="stable")]
    moved, starts = np.unique(query[rows], return_index=True)
    for coarse_ct in {id(coarse_ct): coarse_ct for coarse_ct in (*on_scans.values(), *on_supports.values())}.values():
        coarse_ct.level(0)  # made once, before the threads ask for it

    def move(first: int, last: int) -> None:
        block, block_rows = moved[first:last], rows[starts[first] : (*starts, len(rows))[last]]
        of_template, number = np.searchsorted(block, query[block_rows]), np.arange(last - first)
        for stage in stages:
            check_cancelled(cancelled)
            templates = Templates(on_supports, len(block), of_template, support[block_rows], clicks[block_rows], stage)
            steps, spread_mm[block] = displacements(on_scans, scan[block], positions[block], templates, number)
            positions[block] += steps

    _share_out(move, len(moved), progress, cancelled)
    return positions, spread_mm


def refine_known(
    scan: CoarseCT,
    templates: "Sequence[Templates]",
    queries: np.ndarray,
    start: np.ndarray,
    cancelled: CancelCheck | None = None,
) -> np.ndarray:
    """`refine` on one scan, for the `queries` (n,) of templates that were made before, one set for each stage.

    `start` (n, 3) RAS mm. Returns positions (n, 3).
    """
    from APELocalizerLib.core.localization.neighborhoods import displacements

    positions, here = np.array(start, dtype=np.float64), np.zeros(len(queries), dtype=int)
    scan.level(0)

    def move(first: int, last: int) -> None:
        block = slice(first, last)
        for of_stage in templates:
            check_cancelled(cancelled)
            positions[block] += displacements([scan], here[block], positions[block], of_stage, queries[block])[0]

    _share_out(move, len(queries), None, cancelled)
    return positions


def _share_out(
    move: Callable[[int, int], None], count: int, progress: Progress | None, cancelled: CancelCheck | None
) -> None:
    """Call move(first, last) for all of 0 ... count - 1, in blocks, on all cores."""
    size = int(np.clip(-(-count // worker_count()), *QUERIES_PER_BLOCK))
    with one_thread_each():
        parallel_for(
            lambda number: move(number * size, min((number + 1) * size, count)), -(-count // size), progress, cancelled,
            "Refining by the image",
        )  # fmt: skip
