"""From a scan to what the network sees: a posterior-left-inferior image from 0 to 1 and the body mask.

Two ways, both part of a checkpoint's configuration: `PreparationConfig.published()` repeats the preprocessing of the
published APE network (body box, 1 x 1 x 1.5 mm, HU window, adaptive histogram equalization of the whole volume, then
the inference spacing); `PreparationConfig.plain()` goes from the body box directly to the inference spacing and the
window.

Internally stacks have axes (I, P, L), slice by slice as CT is stored; results are (P, L, I).
"""

from dataclasses import asdict, dataclass, fields

import numpy as np

from APELocalizerLib.core.body import body_box, body_mask
from APELocalizerLib.core.canonical import canonical_view
from APELocalizerLib.core.clahe import Quantization, equalize_levels
from APELocalizerLib.core.errors import PreparationError
from APELocalizerLib.core.geometry import Box, spacing_of, subgrid_affine
from APELocalizerLib.core.interpolation import AxisSampling, antialiased, parallel_for, resample, sample_exactly, zoomed
from APELocalizerLib.core.progress import CancelCheck, Progress, check_cancelled, report, sub_progress
from APELocalizerLib.core.scan import Scan

HU_LIMITS = (-1024.0, 3071.0)
"""Padding below and metal above are clipped to this before averaging (plain preparation only)."""

PLAIN_MARGINS = (0, 1, 1)
"""Blocks (I, P, L) kept around the body box in the plain preparation: the skin, but no slab of air above or below.

The network reads where the image ends; a scan stored obliquely would otherwise seem to end in air.
"""

Samplings = tuple[AxisSampling, AxisSampling, AxisSampling]


@dataclass(frozen=True)
class PreparationConfig:
    """How scans are prepared for one checkpoint.

    Attributes:
        base_spacing: (P, L, I) mm of the grid on which intensities are equalized; None to go directly to the inference
        spacing. window: HU that become 0 and 1. clahe_clip_limit: clip limit of the adaptive histogram equalization; 0
        for none. antialias: average over whole source voxels when going to a coarser grid. body_threshold: HU from
        which a voxel counts as body. lattice: the grid begins at a multiple of (P, L, I) voxels of a lattice fixed in
        the world (0: in the middle of the body box), so that copies of a scan on other grids are read at the same
        places; only with antialias. end_trim_mm: whole slices up to this thickness are left out at the head and foot
        end, where resampling blurs a scan with what is outside it.
    """

    base_spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.5)
    window: tuple[float, float] = (-1000.0, 300.0)
    clahe_clip_limit: float = 0.05
    antialias: bool = False
    body_threshold: float = -500.0
    lattice: tuple[int, int, int] = (0, 0, 0)
    end_trim_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.base_spacing is not None:
            object.__setattr__(self, "base_spacing", _valid_spacing(self.base_spacing))
        low, high = (float(hu) for hu in self.window)
        if not low < high:
            raise PreparationError(f"The intensity window must rise, not go from {low:g} to {high:g} HU. Correct it.")
        object.__setattr__(self, "window", (low, high))
        if not isinstance(self.lattice, tuple) or len(self.lattice) != 3 or min(self.lattice) < 0:
            raise PreparationError(f"A lattice is three whole numbers, not {self.lattice}. Correct the model.")

    @classmethod
    def published(cls) -> "PreparationConfig":
        """Exactly what the published APE network was trained on."""
        return cls()

    @classmethod
    def plain(cls) -> "PreparationConfig":
        """Fast: antialiased sampling at the inference spacing and a fixed window."""
        return cls(base_spacing=None, clahe_clip_limit=0.0, antialias=True)

    @classmethod
    def locked(cls) -> "PreparationConfig":
        """As plain, on a lattice fixed in the world and without the blurred end slices: steady under resampling."""
        return cls(base_spacing=None, clahe_clip_limit=0.0, antialias=True, lattice=(8, 8, 1), end_trim_mm=4.0)

    def to_dict(self) -> dict:
        """Plain numbers, lists and None, for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> "PreparationConfig":
        """Inverse of `to_dict`. Raises PreparationError for settings this version does not know."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise PreparationError(
                f"Unknown preparation setting “{unknown[0]}”: the model needs a newer APELocalizer. Update it."
            )
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """What the network sees.

    Attributes:
        image: float32 in 0..1, axes (P, L, I); not necessarily contiguous in memory.
        body_mask: bool, same shape; False in the air around the patient, True in lungs and bowel gas.
        grid_to_ras: 4x4 float64 from index in `image` to RAS mm, exact (voxel centers at integer indices).
        field_of_view: RAS box around the whole scan.
        scan_name, scan_fingerprint: of the scan this was made from.
    """

    image: np.ndarray
    body_mask: np.ndarray
    grid_to_ras: np.ndarray
    field_of_view: Box
    scan_name: str
    scan_fingerprint: str


def prepare(
    scan: Scan,
    config: PreparationConfig,
    spacing: tuple[float, float, float],
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> PreparedScan:
    """Prepare a scan at an inference spacing.

    Args:
        spacing: (P, L, I) in mm.

    Raises:
        PreparationError: no body in the scan, or an impossible spacing.
        Cancelled: if `cancelled` returned True; checked between slices.
    """
    spacing = _valid_spacing(spacing)
    report(progress, 0.0, "Orienting the scan")
    voxels, grid_to_ras = canonical_view(scan)
    stack = _slice_by_slice(voxels)
    check_cancelled(cancelled)
    margins = PLAIN_MARGINS if config.antialias else (0, 0, 0)
    box = body_box(stack, spacing_of(grid_to_ras)[[2, 0, 1]], config.body_threshold, margins)
    if box is None:
        raise PreparationError(
            f"No body was found in “{scan.name}”: nothing in it is denser than {config.body_threshold:g} HU over 5 mm. "
            "Check that it is a CT in Hounsfield units and not cropped to air."
        )
    box = _trimmed(box, config.end_trim_mm, spacing_of(grid_to_ras)[2])
    base = config.base_spacing or spacing
    starts = None
    if all(config.lattice) and config.antialias:
        starts = _lattice_start(box, grid_to_ras, base, config.lattice)
        box = (box[0], *(slice(max(0, int(at)), part.stop) for at, part in zip(starts[1:], box[1:], strict=True)))
        starts = starts - [part.start for part in box]
    stack, grid_to_ras = stack[box], _moved(grid_to_ras, [part.start for part in box])
    drop_beyond = config.base_spacing is not None
    samplings = _samplings(stack.shape, grid_to_ras, base, config.antialias, drop_beyond, starts)
    limits = HU_LIMITS if config.antialias else None
    hu = resample(stack, samplings, limits, sub_progress(progress, 0.05, 0.5), cancelled)
    grid_to_ras = _sampled(grid_to_ras, samplings)
    if config.clahe_clip_limit > 0:
        image, mask, grid_to_ras = _equalized(stack, samplings, hu, grid_to_ras, config, progress, cancelled)
    else:
        mask = body_mask(hu < config.body_threshold) & _within(samplings, stack.shape)
        image = _windowed(hu, config.window)
    check_cancelled(cancelled)
    if not mask.any():
        raise PreparationError(f"No body was found in “{scan.name}” apart from air. Check that it shows a patient.")
    if spacing != base:
        image, mask, grid_to_ras = _at_spacing(image, mask, grid_to_ras, base, spacing, config.antialias)
    report(progress, 1.0, "Scan prepared")
    return PreparedScan(
        image.transpose(1, 2, 0), mask.transpose(1, 2, 0), grid_to_ras, scan.bounds(), scan.name, scan.fingerprint
    )


def _equalized(
    stack: np.ndarray,
    samplings: Samplings,
    hu: np.ndarray,
    grid_to_ras: np.ndarray,
    config: PreparationConfig,
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop, body mask and equalization on the base grid: (image, mask, grid_to_ras).

    Equalization maps 253 gray levels to unrelated values, so a rounding error that moves a voxel across the border of a
    level would show: voxels near a border are computed again in float64, which makes levels equal to a float64
    pipeline's.
    """
    kept = _above_minimum(hu)
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

    parallel_for(work, len(cropped), sub_progress(progress, 0.5, 0.6), cancelled)
    mask = body_mask(air)
    report(progress, 0.65, "Equalizing contrast")
    image = equalize_levels(levels, config.clahe_clip_limit, sub_progress(progress, 0.65, 0.95), cancelled)
    return image, mask, _moved(grid_to_ras, origin)


def _at_spacing(
    image: np.ndarray, mask: np.ndarray, grid_to_ras: np.ndarray, base: tuple, spacing: tuple, antialias: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Second zoom, from the base grid to the inference spacing; the mask by nearest neighbor."""
    nominal = np.diag([*base, 1.0])
    samplings = _samplings(image.shape, nominal, spacing, antialias)
    nearest = [
        np.clip(np.floor(s.start + s.step * np.arange(len(s)) + 0.5).astype(int), 0, n - 1)
        for s, n in zip(samplings, image.shape, strict=True)
    ]
    return resample(image, samplings), mask[np.ix_(*nearest)], _sampled(grid_to_ras, samplings)


def _samplings(
    shape: tuple[int, int, int],
    grid_to_ras: np.ndarray,
    spacing: tuple,
    antialias: bool,
    drop_beyond: bool = False,
    starts: np.ndarray | None = None,
) -> Samplings:
    """One sampling per stack axis (I, P, L) to go from a canonical grid to `spacing` (P, L, I).

    `starts` (3,): stack indices of the first outputs, below 1; None to center them (antialiased only).
    """
    ratios = (np.array(spacing) / spacing_of(grid_to_ras))[[2, 0, 1]]
    if not antialias:
        return tuple(zoomed(n, float(1.0 / ratio), drop_beyond) for n, ratio in zip(shape, ratios, strict=True))
    begin = (None,) * 3 if starts is None else (float(start) for start in starts)
    return tuple(antialiased(n, float(ratio), start) for n, ratio, start in zip(shape, ratios, begin, strict=True))


def _lattice_start(
    box: tuple[slice, ...], grid_to_ras: np.ndarray, spacing: tuple, lattice: tuple[int, int, int]
) -> np.ndarray:
    """Stack indices (I, P, L) of the last lattice points at or before the start of the box; fractional."""
    to_canonical = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])  # rows I, P, L from R, A, S
    origin = to_canonical @ grid_to_ras[:3, 3]
    own = spacing_of(grid_to_ras)[[2, 0, 1]]
    period = (np.array(spacing) * lattice)[[2, 0, 1]]
    start = origin + own * [part.start for part in box]
    return (np.floor(start / period + 1e-6) * period - origin) / own


def _within(samplings: Samplings, shape: tuple[int, int, int]) -> np.ndarray:
    """Outputs (I, P, L) that lie inside the source voxels, not beyond their outer borders."""
    inside = []
    for sampling, n in zip(samplings, shape, strict=True):
        at = sampling.start + sampling.step * np.arange(len(sampling))
        inside.append((at >= -0.5) & (at <= n - 0.5))
    return inside[0][:, None, None] & inside[1][:, None] & inside[2]


def _trimmed(box: tuple[slice, ...], trim_mm: float, slice_mm: float) -> tuple[slice, ...]:
    """The box without the whole slices that `trim_mm` covers at either end; at least half of it is kept."""
    slices, rows, columns = box
    count = min(int(trim_mm / slice_mm + 1e-6), (slices.stop - slices.start) // 4)
    return slice(slices.start + count, slices.stop - count), rows, columns


def _slice_by_slice(voxels: np.ndarray) -> np.ndarray:
    """(P, L, I) voxels as a stack (I, P, L) whose rows are contiguous (forward or backward)."""
    stack = voxels.transpose(2, 0, 1)
    slices, rows, columns = (abs(stride) for stride in stack.strides)
    return stack if slices >= rows >= columns else np.ascontiguousarray(stack)


def _above_minimum(hu: np.ndarray) -> tuple[slice, slice, slice]:
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
    return tuple(box)


def _windowed(hu: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """HU to 0..1, in place."""
    hu -= window[0]
    hu *= 1.0 / (window[1] - window[0])
    return np.clip(hu, 0.0, 1.0, out=hu)


def _moved(grid_to_ras: np.ndarray, origin) -> np.ndarray:
    """Canonical grid whose index 0 is stack index `origin` (I, P, L) of the given one."""
    return subgrid_affine(grid_to_ras, np.array(origin, float)[[1, 2, 0]], np.ones(3))


def _sampled(grid_to_ras: np.ndarray, samplings: Samplings) -> np.ndarray:
    """Canonical grid of the sampled positions."""
    start = np.array([s.start for s in samplings])[[1, 2, 0]]
    return subgrid_affine(grid_to_ras, start, np.array([s.step for s in samplings])[[1, 2, 0]])


def _valid_spacing(spacing) -> tuple[float, float, float]:
    values = tuple(float(mm) for mm in spacing)
    if len(values) != 3 or not all(0.1 <= mm <= 50.0 for mm in values):
        raise PreparationError(f"A spacing must be three numbers between 0.1 and 50 mm, not {spacing}. Correct it.")
    return values
