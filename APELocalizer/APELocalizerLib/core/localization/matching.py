"""Refining found places by appearance: the surroundings of the clicks are sought near where the embeddings point.

For every place, the neighborhoods of its clicks on the supports (cubes of features) are compared with the scan at all
steps of a cell within a few centimeters, by their mean squared difference under a Gaussian weight; the costs of all
supports are averaged, a quadratic prior keeps the answer near the embedding's, and the likely steps are averaged.
First coarse (cells of 10 mm, neighborhoods of 12 cm), then fine (5 mm, 5 cm).
Block matching of this kind is how registration finds correspondences (deeds: Heinrich et al., IEEE TMI 2013); here the
embedding replaces its global search. A place from which the way back does not lead to the click is moved part of the
way only: it may look right at the wrong place.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from APELocalizerLib.core.base.parallel import parallel_for, worker_count
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, sub_progress
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap, nearest_on_each
from APELocalizerLib.core.localization.neighborhoods import STAGES, Stage
from APELocalizerLib.core.localization.votes import Shots, medians

if TYPE_CHECKING:
    from APELocalizerLib.core.localization.neighborhoods import Templates

WAYS_BACK = 3
"""Shots of a landmark on whose supports the way back is gone: the median of three is steady, and ten cost time."""

TRUSTED_MM = 30.0
"""Distance between click and return where a place is moved half the way only, if the scan's coordinates are aligned:
what does not lead back is then trusted less than they are. Coordinates that are not aligned are worse than that."""

PLACES_PER_BLOCK = (8, 256)
"""Least and most places that one thread works on together: fewer cost more each, more take memory (9 MB per 100)."""


def can_be_compared(scan: EmbeddingMap, supports: list[EmbeddingMap]) -> bool:
    """Whether the scan and at least one support hold their coarse CT."""
    return scan.coarse_ct is not None and any(support.coarse_ct is not None for support in supports)


def refine_and_check(
    scan: EmbeddingMap,
    supports: list[EmbeddingMap],
    shots: Shots,
    positions: np.ndarray,
    errors: np.ndarray,
    ways_back: np.ndarray,
    cancelled: CancelCheck | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Refined positions (n, 3) RAS mm of n places, and their round-trip errors (n,) mm.

    `positions` and `errors` are what the embeddings say (`retrieval.decide`, `retrieval.round_trip`). A place is not
    moved out of the field of view. From the refined place the way back is gone to at most `ways_back` (n,) supports,
    of those with a coarse CT, in the same manner (embedding, then appearance); the error is the root mean square of
    the embeddings' round trip, which tells whether the place is in view at all, and of the distance between click and
    return (median over these shots), which tells how exact it is. Without a way back it is the former alone. Where
    coordinates are aligned, a place stays the nearer to where they point the larger that distance is (`TRUSTED_MM`).
    """
    looks = [support.coarse_ct for support in supports]
    here = np.zeros(len(positions), dtype=int)
    refined = refine(
        [scan.coarse_ct], here, looks, shots.place, shots.support, shots.click, positions, cancelled,
        progress=sub_progress(progress, 0.0, 0.5),
    )  # fmt: skip
    inside = scan.field_of_view.contains(refined)
    refined[~inside] = positions[~inside]
    checked = _some_shots(shots, ways_back, np.array([look is not None for look in looks]))
    returned = _way_back(scan, supports, checked, refined, cancelled, sub_progress(progress, 0.5, 1.0))
    away = np.linalg.norm(returned - checked.click, axis=1)
    back, starts = np.unique(checked.place, return_index=True)  # places whose shots follow each other
    errors = errors.copy()
    apart = medians(away, starts)
    errors[back] = np.sqrt((errors[back] ** 2 + apart**2) / 2)
    if scan.space.aligned:
        trust = 1.0 / (1.0 + (apart / TRUSTED_MM) ** 2)[:, None]
        refined[back] = positions[back] + trust * (refined[back] - positions[back])
    return refined, errors


def _some_shots(shots: Shots, most: np.ndarray, usable: np.ndarray) -> Shots:
    """At most `most` (n,) shots of each place, spread evenly over the library's `usable` supports, place by place."""
    kept = []
    for rows, wanted in zip(np.split(shots.order, shots.starts[1:]), most, strict=True):
        rows = rows[usable[shots.support[rows]]]
        kept += list(rows[np.unique(np.linspace(0, len(rows) - 1, wanted if len(rows) else 0).round().astype(int))])
    return Shots(shots.place[kept], shots.support[kept], shots.click[kept], shots.embedding[kept])


def _way_back(
    scan: EmbeddingMap,
    supports: list[EmbeddingMap],
    shots: Shots,
    positions: np.ndarray,
    cancelled: CancelCheck | None,
    progress: Progress | None,
) -> np.ndarray:
    """Where each shot's click would be found on its support, coming back from the positions (n, 3): (m, 3) RAS mm."""
    back, embeddings = np.empty((len(shots.place), 3)), scan.embedding_at(positions)
    rows_of = {number: np.flatnonzero(shots.support == number) for number in np.unique(shots.support)}
    searches = [(supports[number], embeddings[shots.place[rows]]) for number, rows in rows_of.items()]
    for rows, answer in zip(rows_of.values(), nearest_on_each(searches, cancelled), strict=True):
        back[rows] = answer.points_ras
    looks, each = [support.coarse_ct for support in supports], np.arange(len(back))
    found, here = positions[shots.place], np.zeros(len(back), dtype=int)
    return refine(looks, shots.support, [scan.coarse_ct], each, here, found, back, cancelled, progress=progress)


def refine(
    scans: Sequence[CoarseCT | None],
    scan: np.ndarray,
    supports: Sequence[CoarseCT | None],
    place: np.ndarray,
    support: np.ndarray,
    clicks: np.ndarray,
    start: np.ndarray,
    cancelled: CancelCheck | None = None,
    stages: tuple[Stage, ...] = STAGES,
    progress: Progress | None = None,
) -> np.ndarray:
    """Positions (n, 3) RAS mm of n places, moved from `start` (n, 3) to where it looks like at their clicks.

    `scan` (n,) tells on which of the scans each place is sought; `place` (m,) and `support` (m,) which place each click
    is of and which support it was made on; `clicks` (m, 3) RAS mm there. A place stays where it is if its scan or all
    its supports lack a coarse CT, or nothing comparable is near.
    """
    from APELocalizerLib.core.localization.neighborhoods import (  # PyTorch only when there is work
        Templates,
        displacements,
    )

    positions = np.array(start, dtype=np.float64)
    comparable = np.array([scans[number] is not None for number in scan], dtype=bool)[place]
    comparable &= np.array([supports[number] is not None for number in support], dtype=bool)
    rows = np.flatnonzero(comparable)
    rows = rows[np.argsort(place[rows], kind="stable")]
    moved, starts = np.unique(place[rows], return_index=True)
    for look in {id(look): look for look in (*scans, *supports) if look is not None}.values():
        look.level(0)  # made once, before the threads ask for it

    def move(first: int, last: int) -> None:
        block, own = moved[first:last], rows[starts[first] : (*starts, len(rows))[last]]
        here, each = np.searchsorted(block, place[own]), np.arange(last - first)
        for stage in stages:
            check_cancelled(cancelled)
            templates = Templates(supports, len(block), here, support[own], clicks[own], stage)
            positions[block] += displacements(scans, scan[block], positions[block], templates, each)

    _share_out(move, len(moved), progress, cancelled)
    return positions


def refine_known(
    scan: CoarseCT,
    templates: "Sequence[Templates]",
    places: np.ndarray,
    start: np.ndarray,
    cancelled: CancelCheck | None = None,
) -> np.ndarray:
    """`refine` on one scan, with templates that were made before, one for each stage; `places` (n,) of them are sought.

    `start` (n, 3) RAS mm. Returns positions (n, 3).
    """
    from APELocalizerLib.core.localization.neighborhoods import displacements

    positions, here = np.array(start, dtype=np.float64), np.zeros(len(places), dtype=int)
    scan.level(0)

    def move(first: int, last: int) -> None:
        block = slice(first, last)
        for each in templates:
            check_cancelled(cancelled)
            positions[block] += displacements([scan], here[block], positions[block], each, places[block])

    _share_out(move, len(places), None, cancelled)
    return positions


def _share_out(
    move: Callable[[int, int], None], count: int, progress: Progress | None, cancelled: CancelCheck | None
) -> None:
    """Call move(first, last) for all of 0 ... count - 1, in blocks, on all cores."""
    from APELocalizerLib.core.localization.neighborhoods import one_thread_each

    size = int(np.clip(-(-count // worker_count()), *PLACES_PER_BLOCK))
    with one_thread_each():
        parallel_for(
            lambda number: move(number * size, min((number + 1) * size, count)), -(-count // size), progress, cancelled,
            "Comparing what they look like",
        )  # fmt: skip
