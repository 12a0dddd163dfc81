"""The steps of preparation on a device, with tensors: the scan is uploaded once, and nothing comes back but its box.

The same answers as `cpu`, with the same arithmetic where rounding decides (levels of gray); written in
plain PyTorch, so that it runs, and is tested, on the CPU too.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report, sub_progress
from APELocalizerLib.core.preparation import gpu_body
from APELocalizerLib.core.preparation.clahe import UNSURE, Quantization
from APELocalizerLib.core.preparation.cpu import slice_by_slice
from APELocalizerLib.core.preparation.gpu_clahe import equalize_levels
from APELocalizerLib.core.preparation.gpu_sampling import resample_all
from APELocalizerLib.core.preparation.grids import Samplings, box_of
from APELocalizerLib.core.preparation.orientation import canonical_view
from APELocalizerLib.core.preparation.sampling import AxisSampling
from APELocalizerLib.core.scan.scan import Scan

if TYPE_CHECKING:
    from APELocalizerLib.core.preparation.config import PreparationConfig

CHUNK = 64
"""Slices handled together."""


class GpuPreparation:
    """What `preparation.prepare_all` does with voxels, on one device; see `CpuPreparation` for the methods."""

    body_box = staticmethod(gpu_body.body_box)
    body_center = staticmethod(gpu_body.body_center)

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stack(self, scan: Scan) -> tuple[Tensor, np.ndarray]:
        voxels, grid_to_ras = canonical_view(scan)
        stack = slice_by_slice(voxels)
        kind = torch.int16 if stack.dtype == np.int16 else torch.float32
        pinned = torch.empty(stack.shape, dtype=kind, pin_memory=self.device.type == "cuda")
        np.copyto(pinned.numpy(), stack)  # the scan itself is read-only, and may run backward
        return pinned.to(self.device, non_blocking=True), grid_to_ras

    def resample(
        self,
        stack: Tensor,
        grids: list[Samplings],
        limits: tuple[float, float] | None,
        antialias: bool,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> list[Tensor]:
        if antialias:
            return resample_all(stack, grids, limits, progress, cancelled)
        return [zoom(stack, samplings, progress, cancelled) for samplings in grids]

    def for_each(
        self,
        work: Callable[[int, Progress | None], None],
        count: int,
        progress: Progress | None,
        cancelled: CancelCheck | None,
    ) -> None:
        for n in range(count):
            check_cancelled(cancelled)
            work(n, sub_progress(progress, n / count, (n + 1) / count))
        check_cancelled(cancelled)
        report(progress, 1.0, "Preparing the scan")

    def body_mask(self, air: Tensor, within: np.ndarray) -> Tensor:
        return gpu_body.body_mask(air) & torch.from_numpy(within).to(self.device)

    def windowed(self, hu: Tensor, window: tuple[float, float]) -> Tensor:
        return hu.sub_(window[0]).mul_(1.0 / (window[1] - window[0])).clamp_(0.0, 1.0)

    def at(self, mask: Tensor, indices: list[np.ndarray]) -> Tensor:
        for axis, index in enumerate(indices):
            mask = mask.index_select(axis, torch.from_numpy(index).to(self.device))
        return mask

    def posterior_left_inferior(self, stack: Tensor) -> Tensor:
        return stack.permute(1, 2, 0)

    def equalized(
        self,
        stack: Tensor,
        samplings: Samplings,
        hu: Tensor,
        config: "PreparationConfig",
        progress: Progress | None,
        cancelled: CancelCheck | None,
    ) -> tuple[Tensor, Tensor, list[int]]:
        kept = above_minimum(hu)
        origin = [part.start for part in kept]
        hu = hu[kept]
        levels_of = Quantization(float(hu.min()), float(hu.max()), config.window, config.body_threshold)
        table = torch.from_numpy(levels_of.table).to(self.device)
        levels, air = torch.empty_like(hu, dtype=torch.uint8), hu < config.body_threshold
        for start in range(0, len(hu), CHUNK):
            check_cancelled(cancelled)
            part = slice(start, start + CHUNK)
            cell = ((hu[part] - levels_of.window[0]) * float(levels_of.scale)).long().clamp_(0, len(table) - 1)
            levels[part] = table[cell]
            unsure = torch.nonzero(levels[part] == UNSURE)
            unsure[:, 0] += start
            exact = sample_exactly(stack, samplings, unsure + torch.tensor(origin, device=self.device))
            where = tuple(unsure.t())
            levels[where] = exact_levels(levels_of, exact)
            air[where] = exact < config.body_threshold
            report(progress, 0.3 * min(1.0, (start + CHUNK) / len(hu)), "Preparing the scan")
        mask = gpu_body.body_mask(air)
        check_cancelled(cancelled)
        image = equalize_levels(levels, config.clahe_clip_limit, sub_progress(progress, 0.4, 1.0), cancelled)
        return image, mask, origin


def zoom(
    stack: Tensor, samplings: Samplings, progress: Progress | None = None, cancelled: CancelCheck | None = None
) -> Tensor:
    """As `sampling.resample` for samplings of two voxels each, rounding included."""
    slices, rows, columns = samplings
    out = torch.empty(tuple(map(len, samplings)), device=stack.device)
    for start in range(0, len(out), CHUNK):
        check_cancelled(cancelled)
        index = slices.index[start : start + CHUNK]
        first, last = int(index.min()), int(index.max())
        planes = _blended(stack[first : last + 1].float(), rows, 1)
        planes = _blended(planes, columns, 2)
        part = AxisSampling(index - first, slices.weight[start : start + CHUNK], slices.start, slices.step)
        out[start : start + CHUNK] = _blended(planes, part, 0)
        report(progress, min(1.0, (start + CHUNK) / len(out)), "Preparing the scan")
    return out


def _blended(x: Tensor, sampling: AxisSampling, axis: int) -> Tensor:
    """x along one axis at the outputs of a sampling: a + w (b - a), as `sampling.resample` computes it."""
    first, second = (x.index_select(axis, torch.from_numpy(index).to(x.device)) for index in sampling.index.T.copy())
    weight = torch.from_numpy(sampling.weight[:, 1].astype(np.float32)).to(x.device)
    shape = [1] * x.ndim
    shape[axis] = -1
    return (second - first).mul_(weight.view(shape)).add_(first)


def sample_exactly(stack: Tensor, samplings: Samplings, outputs: Tensor) -> Tensor:
    """As `sampling.sample_exactly`, at outputs (n, 3)."""
    index, weight = [], []
    for axis, sampling in enumerate(samplings):
        index.append(torch.from_numpy(sampling.index).to(stack.device)[outputs[:, axis]])
        weight.append(torch.from_numpy(sampling.weight).to(stack.device)[outputs[:, axis]])
    total = torch.zeros(len(outputs), dtype=torch.float64, device=stack.device)
    for a, b, c in np.ndindex(*(i.shape[1] for i in index)):
        factor = weight[0][:, a] * weight[1][:, b] * weight[2][:, c]
        total += stack[index[0][:, a], index[1][:, b], index[2][:, c]] * factor
    return total.float()


def exact_levels(levels_of: Quantization, hu: Tensor) -> Tensor:
    """As `Quantization.exactly`."""
    return torch.from_numpy(levels_of.exactly(hu.cpu().numpy())).to(hu.device)


def above_minimum(hu: Tensor) -> tuple[slice, slice, slice]:
    """As `cpu.above_minimum`."""
    above = hu > hu.min()
    box = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        hit = torch.nonzero(above.any(dim=others[1]).any(dim=others[0]))[:, 0].tolist() or [0]
        box.append(slice(hit[0], hit[-1] + 1))
    return box_of(box)
