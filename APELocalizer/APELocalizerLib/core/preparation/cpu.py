"""The steps of preparation on the CPU, with arrays: stacks (I, P, L) in, stacks out."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from APELocalizerLib.core.base.parallel import parallel_for
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, sub_progress
from APELocalizerLib.core.preparation.body import body_box, body_center, body_mask
from APELocalizerLib.core.preparation.clahe import Quantization, equalize_levels
from APELocalizerLib.core.preparation.grids import Samplings, box_of
from APELocalizerLib.core.preparation.orientation import canonical_view
from APELocalizerLib.core.preparation.sampling import resample, sample_exactly
from APELocalizerLib.core.scan.scan import Scan

if TYPE_CHECKING:
    from APELocalizerLib.core.preparation.config import PreparationConfig


class CpuPreparation:
    """What `preparation.prepare_all` does with voxels, on the processor's cores; see `GpuPreparation` for the other."""

    body_box = staticmethod(body_box)
    body_center = staticmethod(body_center)

    def stack(self, scan: Scan) -> tuple[np.ndarray, np.ndarray]:
        """Canonical stack (I, P, L) whose rows are contiguous (forward or backward), and the canonical grid."""
        voxels, grid_to_ras = canonical_view(scan)
        return slice_by_slice(voxels), grid_to_ras

    def resample(
        self,
        stack: np.ndarray,
        grids: list[Samplings],
        limits: tuple[float, float] | None,
        antialias: bool,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> list[np.ndarray]:
        """Float32 stacks on all grids. Without antialiasing two voxels are blended so that equal ones stay equal."""
        if antialias:
            from APELocalizerLib.core.preparation.gpu_sampling import resample_all

            return [tensor.numpy() for tensor in resample_all(stack, grids, limits, progress, cancelled)]
        return [resample(stack, samplings, limits, progress, cancelled) for samplings in grids]

    def for_each(
        self,
        work: Callable[[int, Progress | None], None],
        count: int,
        progress: Progress | None,
        cancelled: CancelCheck | None,
    ) -> None:
        """Call work(n, share of progress) for n = 0 … count - 1, several at a time."""
        if count == 1:
            work(0, progress)
            check_cancelled(cancelled)
        else:
            parallel_for(lambda n: work(n, None), count, progress, cancelled)

    def body_mask(self, air: np.ndarray, within: np.ndarray) -> np.ndarray:
        """Body mask, and False where `within` is."""
        return body_mask(air) & within

    def windowed(self, hu: np.ndarray, window: tuple[float, float]) -> np.ndarray:
        """HU to 0..1, in place."""
        hu -= window[0]
        hu *= 1.0 / (window[1] - window[0])
        return np.clip(hu, 0.0, 1.0, out=hu)

    def at(self, mask: np.ndarray, indices: list[np.ndarray]) -> np.ndarray:
        """The mask at one list of indices per axis."""
        return mask[np.ix_(*indices)]

    def posterior_left_inferior(self, stack: np.ndarray) -> np.ndarray:
        """Stack (I, P, L) as (P, L, I)."""
        return stack.transpose(1, 2, 0)

    def equalized(
        self,
        stack: np.ndarray,
        samplings: Samplings,
        hu: np.ndarray,
        config: "PreparationConfig",
        progress: Progress | None,
        cancelled: CancelCheck | None,
    ) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Crop, equalization and body mask on the base grid: (image, mask, first index (3,) of the crop).

        Equalization maps 253 gray levels to unrelated values, so a rounding error that moves a voxel across the border
        of a level would show: voxels near a border are computed again in float64, which makes levels equal to a float64
        pipeline's.
        """
        kept = above_minimum(hu)
        levels_of = Quantization(float(hu[kept].min()), float(hu[kept].max()), config.window, config.body_threshold)
        cropped = hu[kept]
        origin = [part.start for part in kept]
        levels = np.empty(cropped.shape, np.uint8)
        air = np.empty(cropped.shape, bool)

        def work(i: int) -> None:
            levels[i], unsure = levels_of(cropped[i])
            np.less(cropped[i], config.body_threshold, out=air[i])
            if unsure.size:
                row, column = np.divmod(unsure, cropped.shape[2])
                outputs = (np.full(len(unsure), i + origin[0]), row + origin[1], column + origin[2])
                exact = sample_exactly(stack, samplings, outputs)
                levels[i].ravel()[unsure] = levels_of.exactly(exact)
                air[i].ravel()[unsure] = exact < config.body_threshold

        parallel_for(work, len(cropped), sub_progress(progress, 0.0, 0.2), cancelled)
        mask = body_mask(air)
        image = equalize_levels(levels, config.clahe_clip_limit, sub_progress(progress, 0.3, 1.0), cancelled)
        return image, mask, origin


def slice_by_slice(voxels: np.ndarray) -> np.ndarray:
    """(P, L, I) voxels as a stack (I, P, L) whose rows are contiguous (forward or backward)."""
    stack = voxels.transpose(2, 0, 1)
    slices, rows, columns = (abs(stride) for stride in stack.strides)
    return stack if slices >= rows >= columns else np.ascontiguousarray(stack)


def above_minimum(hu: np.ndarray) -> tuple[slice, slice, slice]:
    """Bounding box of the voxels above the minimum: drops faces of constant padding."""
    lowest = hu.min()
    box = []
    for axis in range(3):
        faces = np.moveaxis(hu, axis, 0)
        start, stop = 0, len(faces)
        while start < stop - 1 and not (faces[start] > lowest).any():
            start += 1
        while stop > start + 1 and not (faces[stop - 1] > lowest).any():
            stop -= 1
        box.append(slice(start, stop))
    return box_of(box)
