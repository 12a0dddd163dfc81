"""From a scan to what the network sees: a posterior-left-inferior image from 0 to 1 and the body mask.

Two ways, both part of a model's configuration: `PreparationConfig.published()` repeats the preprocessing of the
published APE network (body box, 1 x 1 x 1.5 mm, HU window, adaptive histogram equalization of the whole volume, then
the inference spacing); `PreparationConfig.plain()` goes from the body box directly to the inference spacing and the
window.

Internally stacks have axes (I, P, L), slice by slice as CT is stored; results are (P, L, I). What is done to their
voxels is in `cpu` (arrays, on the processor's cores) and `gpu` (tensors, on a GPU).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from APELocalizerLib.core.base.errors import PreparationError
from APELocalizerLib.core.base.geometry import shape_of, spacing_of
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report, sub_progress
from APELocalizerLib.core.preparation.config import (
    HU_LIMITS,
    PLAIN_MARGINS,
    PreparationConfig,
    PreparedScan,
    _valid_spacing,
)
from APELocalizerLib.core.preparation.cpu import CpuPreparation
from APELocalizerLib.core.preparation.grids import (
    Box,
    Samplings,
    common_box,
    moved,
    nearest,
    on_lattice,
    sampled,
    samplings_to,
    seen_from,
    trimmed,
    within,
)
from APELocalizerLib.core.preparation.steps import PreparationSteps, Volume
from APELocalizerLib.core.scan.scan import Scan

if TYPE_CHECKING:  # a library can be read where PyTorch is not installed
    import torch

    from APELocalizerLib.core.preparation.gpu import GpuPreparation

PreparationRequest = tuple[PreparationConfig, tuple[float, float, float]]
"""How a scan is to be prepared: configuration, and inference spacing (P, L, I) in mm."""


def prepare(
    scan: Scan,
    config: PreparationConfig,
    spacing: tuple[float, float, float],
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
    device: torch.device | str | None = None,
) -> PreparedScan:
    """Prepare a scan in one way, at one inference spacing (P, L, I) in mm; see `prepare_all`."""
    return prepare_all(scan, [(config, spacing)], progress, cancelled, device)[0]


def prepare_all(
    scan: Scan,
    requests: list[PreparationRequest],
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
    device: torch.device | str | None = None,
) -> list[PreparedScan]:
    """Prepare a scan in several ways, reading it once for all that are antialiased.

    Args:
        device: where the scan is uploaded to, prepared, and left, for example "cuda"; None for arrays on the CPU.

    Raises:
        PreparationError: no body in the scan, or an impossible spacing.
        Cancelled: if `cancelled` returned True; checked between slices.
    """
    requests = [(config, _valid_spacing(spacing)) for config, spacing in requests]
    if device is None:
        return _prepared_by(CpuPreparation(), scan, requests, progress, cancelled)
    return _prepared_by(_gpu_preparation(device), scan, requests, progress, cancelled)


def _gpu_preparation(device: torch.device | str) -> GpuPreparation:
    import torch

    from APELocalizerLib.core.preparation.gpu import GpuPreparation

    return GpuPreparation(torch.device(device))


def _prepared_by(
    steps: PreparationSteps[Volume],
    scan: Scan,
    requests: list[PreparationRequest],
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> list[PreparedScan]:
    report(progress, 0.0, "Orienting the scan")
    stack, grid_to_ras = steps.stack(scan)
    check_cancelled(cancelled)
    plans = _plans(steps, stack, grid_to_ras, requests, scan.name)
    results: dict[PreparationRequest, tuple[Volume, Volume, np.ndarray]] = {}
    done = 0
    for antialias in (True, False):
        mine = {key: plan for key, plan in plans.items() if key[0].antialias == antialias}
        if not mine:
            continue
        share = sub_progress(progress, 0.05 + 0.95 * done / len(plans), 0.05 + 0.95 * (done + len(mine)) / len(plans))
        results |= _on_base_grids(steps, stack, grid_to_ras, mine, scan.name, share, cancelled)
        done += len(mine)
    prepared = []
    for config, spacing in requests:
        base = config.base_spacing or spacing
        image, mask, grid = results[config, base]
        if spacing != base:
            image, mask, grid = _at_spacing(steps, image, mask, grid, base, spacing, config)
        image, mask = (steps.posterior_left_inferior(part) for part in (image, mask))
        prepared.append(PreparedScan(image, mask, grid, scan.bounds(), scan.name, scan.fingerprint))
    report(progress, 1.0, "Scan prepared")
    return prepared


def _plans(
    steps: PreparationSteps[Volume],
    stack: Volume,
    grid_to_ras: np.ndarray,
    requests: list[PreparationRequest],
    name: str,
) -> dict[PreparationRequest, tuple[Box, Samplings]]:
    """For each configuration and base grid: the box of the stack that it needs, and the samplings in it."""
    spacing_mm = spacing_of(grid_to_ras)
    boxes: dict[tuple, Box | None] = {}
    plans: dict[PreparationRequest, tuple[Box, Samplings]] = {}
    center = steps.body_center(stack) if any(all(config.lattice) for config, _ in requests) else np.zeros(3)
    for config, spacing in requests:
        question = (config.body_threshold, PLAIN_MARGINS if config.antialias else (0, 0, 0))
        if question not in boxes:
            boxes[question] = steps.body_box(stack, spacing_mm[[2, 0, 1]], *question)
        body_box = boxes[question]
        if body_box is None:
            raise PreparationError(
                f"No body was found in “{name}”: nothing in it is denser than {config.body_threshold:g} HU over 5 mm. "
                "Check that it is a CT in Hounsfield units and not cropped to air."
            )
        box, starts = trimmed(body_box, config.end_trim_mm, spacing_mm[2]), None
        base = config.base_spacing or spacing
        if all(config.lattice) and config.antialias:
            box, starts = on_lattice(box, spacing_mm[[2, 0, 1]], center, base, config.lattice)
        shape = shape_of(part.stop - part.start for part in box)
        drop_beyond = config.base_spacing is not None
        plans[config, base] = box, samplings_to(base, shape, grid_to_ras, config.antialias, drop_beyond, starts)
    return plans


def _on_base_grids(
    steps: PreparationSteps[Volume],
    stack: Volume,
    grid_to_ras: np.ndarray,
    plans: dict[PreparationRequest, tuple[Box, Samplings]],
    name: str,
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> dict[PreparationRequest, tuple[Volume, Volume, np.ndarray]]:
    """(image, body mask, grid_to_ras) on the base grid of every plan; all are antialiased, or none is."""
    outer = common_box([inner for inner, _ in plans.values()])
    stack = stack[outer]
    grids = [seen_from(samplings, inner, outer) for inner, samplings in plans.values()]
    antialias = next(iter(plans))[0].antialias
    limits = HU_LIMITS if antialias else None
    resampled = steps.resample(stack, grids, limits, antialias, sub_progress(progress, 0.0, 0.5), cancelled)
    keys = list(plans)
    results: dict[PreparationRequest, tuple[Volume, Volume, np.ndarray]] = {}

    def finish(number: int, share: Progress | None) -> None:
        key, hu = keys[number], resampled[number]
        config, (inner, samplings) = key[0], plans[key]
        grid = sampled(moved(grid_to_ras, [part.start for part in inner]), samplings)
        if config.clahe_clip_limit > 0:
            image, mask, origin = steps.equalized(stack, grids[number], hu, config, share, cancelled)
            grid = moved(grid, origin)
        else:
            shape = tuple(part.stop - part.start for part in inner)
            mask = steps.body_mask(hu < config.body_threshold, within(samplings, shape))
            image = steps.windowed(hu, config.window)
        results[key] = image, mask, grid

    steps.for_each(finish, len(keys), sub_progress(progress, 0.5, 1.0), cancelled)
    if not all(mask.any() for _, mask, _ in results.values()):
        raise PreparationError(f"No body was found in “{name}” apart from air. Check that it shows a patient.")
    return results


def _at_spacing(
    steps: PreparationSteps[Volume],
    image: Volume,
    mask: Volume,
    grid_to_ras: np.ndarray,
    base: tuple[float, float, float],
    spacing: tuple[float, float, float],
    config: PreparationConfig,
) -> tuple[Volume, Volume, np.ndarray]:
    """Second zoom, from the base grid to the inference spacing; the mask by nearest neighbor."""
    samplings: Samplings = samplings_to(spacing, shape_of(image.shape), np.diag([*base, 1.0]), config.antialias)
    image = steps.resample(image, [samplings], None, config.antialias)[0]
    mask = steps.at(mask, nearest(samplings, shape_of(mask.shape)))
    return image, mask, sampled(grid_to_ras, samplings)
