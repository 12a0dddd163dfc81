"""Separable linear resampling of stacks of slices.

Coordinates: source index of output o along one axis is `start + step * o`; voxel centers lie at integer indices.
A stack has axes (I, P, L): slices from head to feet, rows toward posterior, columns toward left.
"""

from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.parallel import parallel_for
from APELocalizerLib.core.base.progress import CancelCheck, Progress

CHUNK = 16
"""Output slices computed together by one thread; neighbors in a chunk share their source slices."""


@dataclass(frozen=True, eq=False)
class AxisSampling:
    """How outputs along one axis are weighted sums of sources.

    Attributes:
        index: source indices, intp, shape (n_out, taps).
        weight: weights, float64, shape (n_out, taps), each row sums to 1.
        start, step: source coordinate of output o is start + step * o, exactly.
    """

    index: np.ndarray
    weight: np.ndarray
    start: float
    step: float

    def __len__(self) -> int:
        return len(self.index)


def zoomed(n_in: int, factor: float, drop_beyond: bool = False) -> AxisSampling:
    """Corner-aligned linear zoom to round(n_in * factor) outputs, as `scipy.ndimage.zoom(order=1)` does.

    With `drop_beyond` the last output is left out where rounding puts it a hair beyond the last source voxel: scipy
    fills it with a constant there, which the published preprocessing then crops.
    """
    n_out = max(1, int(round(n_in * factor)))
    step = (n_in - 1) / (n_out - 1) if n_out > 1 else 1.0
    x = step * np.arange(n_out)
    if drop_beyond and n_out > 1 and x[-1] > n_in - 1:
        x = x[:-1]
    return _linear(n_in, x, 0.0, step)


def antialiased(n_in: int, ratio: float, start: float | None = None) -> AxisSampling:
    """Linear sampling every `ratio` source voxels, centered on the axis, of the running mean over int(ratio) voxels.

    Near the ends the mean gets shorter but stays symmetric, so that a linear ramp is reproduced exactly everywhere.
    With a given `start` (before the second source voxel) the outputs begin there and reach to or beyond the last;
    outputs beyond either end repeat the outermost source voxel.
    """
    if start is None:
        n_out = int((n_in - 1) / ratio + 1e-6) + 1
        start = max(0.0, ((n_in - 1) - (n_out - 1) * ratio) / 2)
    else:
        n_out = int(np.ceil((n_in - 1 - start) / ratio - 1e-6)) + 1
    x = np.clip(start + ratio * np.arange(n_out), 0, n_in - 1)
    width = max(1, int(ratio + 1e-6))
    if width == 1:
        return _linear(n_in, x, start, ratio)
    widths = np.minimum(width, np.floor(2 * np.minimum(x, n_in - 1 - x) + 1e-9).astype(int) + 1)
    first = x - (widths - 1) / 2
    base = np.floor(first + 1e-9).astype(np.intp)
    offset = np.clip(first - base, 0.0, 1.0)
    taps = np.arange(width + 1)
    weight = np.where(taps < widths[:, None], 1.0 - offset[:, None], 0.0)
    weight += np.where((taps >= 1) & (taps <= widths[:, None]), offset[:, None], 0.0)
    weight /= widths[:, None]
    index = np.clip(base[:, None] + taps, 0, n_in - 1)
    return AxisSampling(index, weight, start, ratio)


def resample(
    stack: np.ndarray,
    samplings: tuple[AxisSampling, AxisSampling, AxisSampling],
    limits: tuple[float, float] | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> np.ndarray:
    """Resample a stack (I, P, L) of any number type and strides; returns a float32 stack.

    Args:
        limits: values are clipped to this range first.
    """
    slices, rows, columns = samplings
    out = np.empty((len(slices), len(rows), len(columns)), np.float32)

    def work(chunk: int) -> None:
        outputs = range(chunk * CHUNK, min(len(out), (chunk + 1) * CHUNK))
        needed = np.unique(slices.index[outputs.start : outputs.stop])
        planes = np.empty((len(needed), *out.shape[1:]), np.float32)
        for plane, source in zip(planes, needed, strict=True):
            _resample_plane(stack[source], rows, columns, limits, plane)
        spare = np.empty(out.shape[1:], np.float32)
        for o in outputs:
            local = np.searchsorted(needed, slices.index[o])
            _combine([planes[t] for t in local], slices.weight[o].astype(np.float32), out[o], spare)

    parallel_for(work, -(-len(out) // CHUNK), progress, cancelled)
    return out


def sample_exactly(
    stack: np.ndarray, samplings: tuple[AxisSampling, AxisSampling, AxisSampling], outputs: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Values of `resample` at a few outputs (one index array per axis), summed in float64, rounded to float32 (n,)."""
    total = np.zeros(len(outputs[0]))
    index = [s.index[o] for s, o in zip(samplings, outputs, strict=True)]
    weight = [s.weight[o] for s, o in zip(samplings, outputs, strict=True)]
    for a, b, c in np.ndindex(*(i.shape[1] for i in index)):
        factor = weight[0][:, a] * weight[1][:, b] * weight[2][:, c]
        total += stack[index[0][:, a], index[1][:, b], index[2][:, c]] * factor
    return total.astype(np.float32)


def _linear(n_in: int, x: np.ndarray, start: float, step: float) -> AxisSampling:
    low = np.clip(np.floor(x).astype(np.intp), 0, max(0, n_in - 2))
    offset = np.clip(x - low, 0.0, 1.0)
    index = np.stack([low, np.minimum(low + 1, n_in - 1)], axis=1)
    return AxisSampling(index, np.stack([1.0 - offset, offset], axis=1), start, step)


def _resample_plane(
    plane: np.ndarray, rows: AxisSampling, columns: AxisSampling, limits: tuple[float, float] | None, out: np.ndarray
) -> None:
    """Resample one slice (P, L) along both axes into out (float32)."""
    plane = plane.astype(np.float32)
    if limits is not None:
        np.clip(plane, *limits, out=plane)
    by_rows = np.empty((len(rows), plane.shape[1]), np.float32)
    taken = [np.take(plane, index, axis=0, mode="clip") for index in rows.index.T]
    _combine(taken, rows.weight.T[:, :, None].astype(np.float32), by_rows, taken[0])
    taken = [np.take(by_rows, index, axis=1, mode="clip") for index in columns.index.T]
    _combine(taken, columns.weight.T[:, None, :].astype(np.float32), out, taken[0])


def _combine(parts: list[np.ndarray], weights: np.ndarray, out: np.ndarray, spare: np.ndarray) -> None:
    """out = sum of weights[t] * parts[t]; may destroy `spare`, which may be parts[0] but not out.

    Two parts are blended as a + w (b - a), which keeps equal values exactly equal.
    """
    if len(parts) == 2:
        np.subtract(parts[1], parts[0], out=out)
        out *= weights[1]
        out += parts[0]
        return
    np.multiply(parts[0], weights[0], out=out)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        np.multiply(part, weight, out=spare)
        out += spare
