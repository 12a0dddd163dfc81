"""Refining found places by appearance: the surroundings of the clicks are sought near where the embeddings point.

For every place, the neighborhoods of its clicks on the supports (cubes of features) are compared with the scan at all
displacements up to a few centimeters, by their mean squared difference under a Gaussian weight; the costs of all
supports are averaged, a quadratic prior keeps the answer near the embedding's, and the likely displacements are
averaged. First coarse (cells of 10 mm, neighborhoods of 12 cm), then fine (5 mm, 5 cm).
Block matching of this kind is how registration finds correspondences (deeds: Heinrich et al., IEEE TMI 2013); here the
embedding replaces its global search.
"""

from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.appearance import SPACING_MM, Appearance, to_level_index
from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.interpolation import parallel_for
from APELocalizerLib.core.progress import CancelCheck, check_cancelled
from APELocalizerLib.core.retrieval import Shots

MINIMUM_OVERLAP = 0.4
"""A displacement counts only if this share of the neighborhood's weight lies inside the scan."""


WAYS_BACK = 3
"""Shots of a place on whose supports the way back is gone: the median of three is steady enough, and ten cost time."""


@dataclass(frozen=True)
class Stage:
    """One search: `level` of the appearance, cells from the center of a neighborhood to its side (`radius`), cells to
    search in every direction (`reach`), width of the Gaussian weight (share of the radius), weight of the prior (cost
    at 20 mm from the start), and the cost by which a place is e times less likely (`softness`)."""

    level: int
    radius: int = 6
    reach: int = 6
    width: float = 0.6
    prior: float = 0.01
    softness: float = 0.004


STAGES = (
    Stage(level=1, radius=6, reach=5, width=0.7, prior=0.008, softness=0.008),
    Stage(level=0, radius=5, reach=4, width=0.6, prior=0.02, softness=0.004),
)


def can_be_compared(scan: EmbeddingMap, supports: list[EmbeddingMap]) -> bool:
    """Whether the scan and at least one support hold their appearance."""
    return scan.appearance is not None and any(support.appearance is not None for support in supports)


def refine_and_check(
    scan: EmbeddingMap,
    supports: list[EmbeddingMap],
    shots: Shots,
    positions: np.ndarray,
    errors: np.ndarray,
    cancelled: CancelCheck | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Refined positions (n, 3) RAS mm of n places, and their round-trip errors (n,) mm.

    `positions` and `errors` are what the embeddings say (`retrieval.decide`, `retrieval.round_trip`). A place is not
    moved out of the field of view. From the refined place the way back is gone to every support, in the same manner
    (embedding, then appearance); the error is the root mean square of the embeddings' round trip, which tells whether
    the place is in view at all, and of the distance between click and return (median over a few shots), which tells how
    exact it is.
    """
    looks = [support.appearance for support in supports]
    refined = refine(scan.appearance, looks, shots.place, shots.support, shots.click, positions, cancelled=cancelled)
    inside = scan.field_of_view.contains(refined)
    refined[~inside] = positions[~inside]
    checked = _some_shots(shots, WAYS_BACK)
    away = np.linalg.norm(_way_back(scan, supports, checked, refined, cancelled) - checked.click, axis=1)
    away = np.array([np.median(away[checked.place == place]) for place in range(shots.places)])
    return refined, np.sqrt((errors**2 + away**2) / 2)


def _some_shots(shots: Shots, most: int) -> Shots:
    """At most `most` shots of every place, spread evenly over the library's supports."""
    kept = []
    for place in range(shots.places):
        rows = np.flatnonzero(shots.place == place)
        kept += list(rows[np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))])
    return Shots(shots.place[kept], shots.support[kept], shots.click[kept], shots.embedding[kept])


def _way_back(
    scan: EmbeddingMap,
    supports: list[EmbeddingMap],
    shots: Shots,
    positions: np.ndarray,
    cancelled: CancelCheck | None,
) -> np.ndarray:
    """Where each shot's click would be found on its support, coming back from the positions (n, 3): (m, 3) RAS mm."""
    back = np.empty((len(shots.place), 3))
    for number, support in enumerate(supports):
        rows = np.flatnonzero(shots.support == number)
        if not len(rows):
            continue
        found = positions[shots.place[rows]]
        back[rows] = support.nearest(scan.embedding_at(found)).points_ras
        if support.appearance is not None:
            each, here, look = np.arange(len(rows)), np.zeros(len(rows), dtype=int), [scan.appearance]
            back[rows] = refine(support.appearance, look, each, here, found, back[rows], cancelled=cancelled)
    return back


def refine(
    scan: Appearance,
    supports: list[Appearance | None],
    place: np.ndarray,
    support: np.ndarray,
    clicks: np.ndarray,
    start: np.ndarray,
    stages: tuple[Stage, ...] = STAGES,
    cancelled: CancelCheck | None = None,
) -> np.ndarray:
    """Positions (n, 3) RAS mm of n places on the scan, moved from `start` (n, 3) to where they look like their clicks.

    `place` (m,) and `support` (m,) tell which place each click is of and which support it was made on; `clicks` (m, 3)
    RAS mm there. A place stays where it is if no support of it has an appearance, or nothing comparable is near.
    """
    positions = np.array(start, dtype=np.float64)
    usable = np.array([supports[number] is not None for number in support], dtype=bool)
    rows = [np.flatnonzero((place == number) & usable) for number in range(len(positions))]
    for stage in stages:
        check_cancelled(cancelled)
        positions = positions + _displacements(scan, supports, rows, support, clicks, positions, stage, cancelled)
    return positions


def _displacements(
    scan: Appearance,
    supports: list[Appearance | None],
    rows: list[np.ndarray],
    support: np.ndarray,
    clicks: np.ndarray,
    positions: np.ndarray,
    stage: Stage,
    cancelled: CancelCheck | None,
) -> np.ndarray:
    """Displacements (n, 3) RAS mm of n places in one stage; `rows` are the clicks of each."""
    costs = np.full((len(positions), *(2 * stage.reach + 1,) * 3), np.nan, dtype=np.float32)
    scan.level(stage.level)  # made once, before the threads ask for it

    def work(number: int) -> None:
        if len(rows[number]):
            looks = [supports[index] for index in support[rows[number]]]
            costs[number] = _mean_cost(scan, looks, clicks[rows[number]], positions[number], stage)

    parallel_for(work, len(positions), cancelled=cancelled)
    return _expected_displacements(costs, scan, stage)


def _mean_cost(
    scan: Appearance, supports: list[Appearance], clicks: np.ndarray, center: np.ndarray, stage: Stage
) -> np.ndarray:
    """Cost (d, d, d) of moving one place from `center` (3,), over its clicks (m, 3) on as many supports."""
    found, grid = scan.level(stage.level)
    size, span = 2 * stage.radius + 1, 2 * stage.reach + 1
    total = size + span - 1
    target, seen = cut(found, to_level_index(grid, center[None]), total)
    patches, insides = [], []
    for appearance, click in zip(supports, clicks, strict=True):
        features, own_grid = appearance.level(stage.level)
        patch, inside = cut(features, to_level_index(own_grid, click[None]), size)
        patches.append(patch[0])
        insides.append(inside[0])
    return mean_squared_differences(target[0], seen[0], np.stack(patches), np.stack(insides), stage)


def cut(features: np.ndarray, indices: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cubes (n, channels, size, size, size) around fractional indices (n, 3), trilinear, borders repeated.

    Also, per axis, which of the places lie inside the grid: bool (n, 3, size).
    """
    first = indices - (size - 1) / 2
    base = np.floor(first).astype(int)
    fraction = (first - base).astype(np.float32)
    reach = np.arange(size + 1)
    shape = np.array(features.shape[1:])
    at = [np.clip(base[:, axis, None] + reach, 0, shape[axis] - 1) for axis in range(3)]
    cubes = features[:, at[0][:, :, None, None], at[1][:, None, :, None], at[2][:, None, None, :]].swapaxes(0, 1)
    for axis in range(3):
        share = fraction[:, axis].reshape(-1, 1, 1, 1, 1)
        low, high = (np.take(cubes, range(o, o + size), axis=2 + axis) for o in (0, 1))
        cubes = low + share * (high - low)
    places = first[:, :, None] + np.arange(size)
    return cubes, (places >= -0.5) & (places <= shape[:, None] - 0.5)


def mean_squared_differences(
    target: np.ndarray, seen: np.ndarray, patches: np.ndarray, insides: np.ndarray, stage: Stage
) -> np.ndarray:
    """Mean over the patches of their weighted mean squared difference at every displacement.

    target (channels, n, n, n), seen (3, n); patches (m, channels, k, k, k), insides (m, 3, k). Returns (d, d, d) with
    d = n - k + 1; NaN where too little of every patch lies inside the target. The products of target and patches are
    computed with Fourier transforms; the other two sums of (t - p)^2 = t^2 - 2 t p + p^2 axis by axis.
    """
    size, total = patches.shape[-1], target.shape[-1]
    span = total - size + 1
    offsets = np.arange(size) - (size - 1) / 2
    weight = np.exp(-0.5 * (offsets / (stage.width * stage.radius)) ** 2).astype(np.float32)
    own = weight * insides  # (m, 3, k)
    windows = np.lib.stride_tricks.sliding_window_view
    visible = windows(seen.astype(np.float32), size, axis=1)  # (3, d, k)
    norm = [own[:, axis] @ visible[axis].T for axis in range(3)]  # (m, d)
    norm = norm[0][:, :, None, None] * norm[1][:, None, :, None] * norm[2][:, None, None, :]
    inside = seen[0][:, None, None] & seen[1][:, None] & seen[2]
    target = target * inside
    weighted = patches * (own[:, 0, :, None, None] * own[:, 1, None, :, None] * own[:, 2, None, None, :])[:, None]
    squared = np.broadcast_to((target**2).sum(axis=0), (len(patches), total, total, total))
    energy = (weighted * patches).sum(axis=1)
    sliding = np.zeros((3, len(patches), span, total), np.float32)
    for shift in range(span):
        sliding[:, :, shift, shift : shift + size] = own.swapaxes(0, 1)
    for axis in range(3):
        squared, energy = _along_first(sliding[axis], squared), _along_first(visible[axis], energy)
    cross = _correlations(target, weighted, span)
    comparable = norm >= MINIMUM_OVERLAP * own.sum(axis=2).prod(axis=1)[:, None, None, None]
    comparable &= norm > 1e-3
    cost = np.where(comparable, (squared - 2 * cross + energy) / np.maximum(norm, 1e-3), 0)
    count = comparable.sum(axis=0)
    return np.where(count > 0, cost.sum(axis=0) / np.maximum(count, 1), np.nan)


def _correlations(target: np.ndarray, patches: np.ndarray, span: int) -> np.ndarray:
    """Sums over channels and cells of target times patch at every shift (m, span, span, span), by Fourier transforms.

    Transforms wrap around, but the first `span` shifts are free of it as long as they are no shorter than the target.
    """
    length = _fast_length(target.shape[-1])
    spectrum = np.fft.rfftn(target, (length,) * 3, axes=(1, 2, 3))
    product = (spectrum * np.fft.rfftn(patches, (length,) * 3, axes=(2, 3, 4)).conj()).sum(axis=1)
    product = np.fft.ifft(product, axis=1)[:, :span]  # only the shifts that are wanted go on to the next axis
    product = np.fft.ifft(product, axis=2)[:, :, :span]
    return np.fft.irfft(product, length, axis=3)[..., :span]


def _fast_length(cells: int) -> int:
    """The next number without prime factors above 7, which Fourier transforms handle fast."""
    length = cells
    while True:
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _along_first(matrix: np.ndarray, volumes: np.ndarray) -> np.ndarray:
    """Multiply the first axis of volumes (m, a, b, c) by a matrix ([m,] d, a), and move it last: (m, b, c, d)."""
    count, size, *rest = volumes.shape
    product = np.matmul(matrix, volumes.reshape(count, size, -1))
    return np.moveaxis(product.reshape(count, -1, *rest), 1, 3)


def _expected_displacements(costs: np.ndarray, scan: Appearance, stage: Stage) -> np.ndarray:
    """Displacements (n, 3) RAS mm: the mean of all, weighted by exp(-(cost + prior) / softness).

    Near a clear minimum this is its center between the cells; where two places look equally alike it changes steadily
    with the scan, and does not jump.
    """
    _, grid = scan.level(stage.level)
    steps = np.arange(-stage.reach, stage.reach + 1, dtype=np.float64)
    away = (steps[:, None, None] ** 2 + steps[:, None] ** 2 + steps**2) * (SPACING_MM * 2**stage.level / 20.0) ** 2
    result = np.zeros((len(costs), 3))
    for number, cost in enumerate(costs):
        if np.isnan(cost).all():
            continue
        total = np.where(np.isnan(cost), np.inf, cost + stage.prior * away)
        weight = np.exp((total.min() - total) / stage.softness)
        weight /= weight.sum()
        moved = [(weight.sum(axis=others) * steps).sum() for others in ((1, 2), (0, 2), (0, 1))]
        result[number] = grid[:3, :3] @ moved
    return result
