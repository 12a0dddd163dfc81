"""Comparing neighborhoods of clicks with a scan, for many queries at once (see `matching`).

With w the weight around a click, p the features there and t those of the scan, the cost of a step is the weighted mean
of (t - p)^2 = t^2 - 2 t p + p^2 over all clicks. Its sums over the neighborhood are correlations, which Fourier
transforms give for all steps at once; and since they are linear in w, w p and w p^2, these are summed over the clicks
first: a query costs the same however many clicks it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from APELocalizerLib.core.embedding.coarse_ct import FEATURES, SPACING_MM, CoarseCT, to_level_index

CoarseCTs = Mapping[int, CoarseCT] | Sequence[CoarseCT]
"""Coarse CTs by the number of their scan."""

MINIMUM_OVERLAP = 0.4
"""A step counts only if this share of the neighborhoods' weight lies inside the scan."""

QUERIES_PER_CHUNK = 16
"""Queries whose correlations are computed together: few enough for the processor's cache."""


@dataclass(frozen=True)
class Stage:
    """One search: `level` of the coarse CT, cells from the center of a neighborhood to its side (`radius`), cells to
    search in every direction (`reach`), width of the Gaussian weight (share of the radius), weight of the prior (cost
    at 20 mm from the start), and the cost by which a step is e times less likely (`softness`)."""

    level: int
    radius: int = 6
    reach: int = 6
    width: float = 0.6
    prior: float = 0.01
    softness: float = 0.004


STAGES = (
    Stage(level=1, radius=6, reach=3, width=0.7, prior=0.05, softness=0.016),
    Stage(level=0, radius=5, reach=4, width=0.6, prior=0.05, softness=0.004),
)
"""Coarse, then fine. The prior was chosen by cross-validation over patients with known landmarks."""


def displacements(
    scans: CoarseCTs, scan: np.ndarray, positions: np.ndarray, templates: "Templates", queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (n, 3) RAS mm of the templates' `queries` (n,), now at `positions` (n, 3), to where the image
    matches their template; and how far apart the likely steps lie, (n,) mm.

    `scan` (n,): the number of the scan on which a query is sought. A query moves by the mean of all steps (of one cell)
    within the stage's reach, weighted by exp(-(cost + prior) / softness): near a clear minimum this is its center
    between the steps; where two match equally well it changes steadily with the scan, and does not jump. Without
    anything comparable it stays.
    """
    stage, moves, spread_mm = templates.stage, np.zeros((len(positions), 3)), np.zeros(len(positions))
    for number in np.unique(scan):
        features, grid = level(scans[number], stage.level)
        rows = np.flatnonzero(scan == number)
        for start in range(0, len(rows), QUERIES_PER_CHUNK):
            chunk = rows[start : start + QUERIES_PER_CHUNK]
            at = torch.from_numpy(to_level_index(grid, positions[chunk]))
            costs = templates.costs(queries[chunk], features, at)
            steps, spread = _expected_steps(costs, stage)
            moves[chunk] = steps.numpy() @ grid[:3, :3].T
            spread_mm[chunk] = spread.numpy() * SPACING_MM * 2**stage.level
    return moves, spread_mm


def level(coarse_ct: CoarseCT, number: int) -> tuple[torch.Tensor, np.ndarray]:
    """Features (c, p, l, i) of a level of the coarse CT, and its grid_to_ras (4, 4)."""
    features, grid = coarse_ct.level(number)
    return torch.from_numpy(features), grid


class Templates:
    """The image around the clicks of n queries on their supports, in one stage.

    `clicks` (m, 3) RAS mm, each of the query `query` (m,) and on the support `support` (m,). All clicks count alike,
    also where a support ends within the neighborhood.
    """

    def __init__(
        self,
        supports: CoarseCTs,
        queries: int,
        query: np.ndarray,
        support: np.ndarray,
        clicks: np.ndarray,
        stage: Stage,
    ) -> None:
        size = 2 * stage.radius + 1
        self.stage, self.query = stage, torch.from_numpy(query)
        self.weights = torch.zeros(len(query), 3, size)
        self.patches = torch.zeros(queries, len(FEATURES) + 1, size, size, size)  # -2 w p of every feature, then w
        self.energy = torch.zeros(queries, size, size, size)  # w p^2
        for number in np.unique(support):
            rows = np.flatnonzero(support == number)
            features, grid = level(supports[number], stage.level)
            first = torch.from_numpy(to_level_index(grid, clicks[rows])) - stage.radius
            patch, seen = _between_cells(features, first, size)
            weights = _weights(seen, stage)
            weight, into = _product(weights), self.query[rows]
            weighted = patch * weight[:, None]
            self.weights[rows] = weights
            self.patches.index_add_(0, into, torch.cat([-2.0 * weighted, weight[:, None]], dim=1))
            self.energy.index_add_(0, into, weighted.mul_(patch).sum(dim=1))

    def costs(self, queries: np.ndarray, features: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Costs (k, d, d, d) of the steps from `at` (k, 3) for k queries; infinite where too little is comparable.

        `features` (c, p, l, i) of the scan, `at` fractional indices in them. Outside the scan nothing is compared.
        """
        size, span = 2 * self.stage.radius + 1, 2 * self.stage.reach + 1
        first = at - self.stage.radius - self.stage.reach
        target, seen = _between_cells(features, first, size + span - 1)
        visible = seen.float()
        target = target * _product(visible)[:, None]
        target = torch.cat([target, target.square().sum(dim=1, keepdim=True)], dim=1)
        windows = visible.unfold(2, size, 1)  # (k, 3, d, size)
        sums = _correlations(target, self.patches[queries], span) + _windowed(self.energy[queries], windows)
        share, clicks = self._shares(queries, windows)
        comparable = share >= MINIMUM_OVERLAP * clicks.clamp_min(1e-6)
        return torch.where(comparable, sums / share.clamp_min(1e-6), torch.inf)

    def _shares(self, queries: np.ndarray, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (k, d, d, d) that is seen in the windows (k, 3, d, size), and all the weight (k, 1, 1, 1)."""
        row_of = np.full(len(self.patches), -1)
        row_of[queries] = np.arange(len(queries))
        into = torch.from_numpy(row_of)[self.query]
        weights, into = self.weights[into >= 0], into[into >= 0]
        seen = torch.matmul(windows[into], weights[..., None])[..., 0]
        share = torch.zeros(len(queries), *(seen.shape[2],) * 3).index_add_(0, into, _product(seen))
        clicks = torch.zeros(len(queries)).index_add_(0, into, weights.sum(dim=2).prod(dim=1))
        return share, clicks[:, None, None, None]


def _between_cells(features: torch.Tensor, first: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cubes (n, c, size, size, size) from fractional indices `first` (n, 3) on, trilinear, borders repeated.

    Also, per axis, which of the positions lie inside the grid: bool (n, 3, size).
    """
    shape = torch.tensor(features.shape[1:])[:, None]
    base = first.floor()
    cells = base[:, :, None].long() + torch.arange(size + 1)
    cells = torch.minimum(cells.clamp_min(0), shape - 1)
    rows = cells[:, 0, :, None] * shape[1] + cells[:, 1, None]
    flat = (rows * shape[2])[..., None] + cells[:, None, None, 2]
    cubes = features.flatten(1)[:, flat.flatten()].reshape(len(features), *flat.shape).transpose(0, 1)
    for axis in range(3):
        share = (first - base)[:, axis].float().reshape(-1, 1, 1, 1, 1)
        cubes = torch.lerp(cubes.narrow(2 + axis, 0, size), cubes.narrow(2 + axis, 1, size), share)
    positions = first[:, :, None] + torch.arange(size)
    return cubes, (positions >= -0.5) & (positions <= shape - 0.5)


def _weights(inside: torch.Tensor, stage: Stage) -> torch.Tensor:
    """Weights (n, 3, size) along the axes of neighborhoods: Gaussian, 0 where not inside; their product has sum 1."""
    offsets = torch.arange(2 * stage.radius + 1) - stage.radius
    weights = torch.exp(-0.5 * (offsets / (stage.width * stage.radius)) ** 2) * inside
    return weights / weights.sum(dim=2, keepdim=True).clamp_min(1e-6)


def _product(along: torch.Tensor) -> torch.Tensor:
    """Outer products (n, a, a, a) of vectors along the three axes (n, 3, a)."""
    return along[:, 0, :, None, None] * along[:, 1, None, :, None] * along[:, 2, None, None, :]


def _correlations(targets: torch.Tensor, patches: torch.Tensor, span: int) -> torch.Tensor:
    """Sums over channels and cells of target (n, c, a, a, a) times patch (n, c, b, b, b) at every shift: (n, d, d, d).

    By Fourier transforms; they wrap around, but the first d = a - b + 1 = `span` shifts are free of it.
    """
    length, axes = (_fast_length(targets.shape[-1]),) * 3, (-3, -2, -1)
    spectra = torch.fft.rfftn(targets, length, axes) * torch.fft.rfftn(patches, length, axes).conj()
    return torch.fft.irfftn(spectra.sum(dim=1), length, axes)[:, :span, :span, :span]


def _fast_length(cells: int) -> int:
    """The next number without prime factors above 5, which Fourier transforms handle fast."""
    length = cells
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _windowed(volumes: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Sums of volumes (n, a, a, a) over windows (n, 3, d, a), 1 where a cell is within: (n, d, d, d)."""
    for axis in range(3):  # an axis is summed when it is the first, and comes back as the last
        sums = torch.bmm(windows[:, axis], volumes.flatten(2))
        volumes = sums.reshape(*sums.shape[:2], *volumes.shape[2:]).movedim(1, 3)
    return volumes


def _expected_steps(costs: torch.Tensor, stage: Stage) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean step (n, 3) and root mean square distance from it (n,) in cells, from the costs (n, d, d, d); float64."""
    steps = torch.arange(-stage.reach, stage.reach + 1, dtype=torch.float64)
    far = steps.square() * (SPACING_MM * 2**stage.level / 20.0) ** 2
    total = (costs + stage.prior * (far[:, None, None] + far[:, None] + far)).flatten(1)
    least = total.min(dim=1, keepdim=True).values
    likely = torch.where(least.isfinite(), torch.exp((least - total) / stage.softness), 0.0)
    likely = (likely / likely.sum(dim=1, keepdim=True).clamp_min(1e-30)).reshape(costs.shape)
    along = [likely.sum(dim=others) for others in ((2, 3), (1, 3), (1, 2))]
    mean = torch.stack([share @ steps for share in along], dim=1)
    variance = sum(share @ steps.square() for share in along) - mean.square().sum(dim=1)
    return mean, variance.clamp_min(0.0).sqrt()
