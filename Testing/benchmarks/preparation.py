"""Goal 1: preparation as published, beside SciPy and scikit-image."""

import inspect
from collections.abc import Iterator

import numpy as np
import torch

from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.prepare import prepare
from APELocalizerLib.core.scan.scan import Scan
from benchmarks import published, scans
from benchmarks.table import Goal, Row, not_measured
from benchmarks.timing import Times, functions_profile
from benchmarks.workbench import Workbench, size_text

BASE, DEVICE = (1.0, 1.0, 1.5), "cuda"
REFERENCE = "scipy.ndimage.zoom + skimage.exposure.equalize_adapthist"
FASTER, EQUAL, FASTER_ON_CUDA = Goal("faster", 10), Goal("at_most", 2e-3), Goal("faster", 100)


def rows(bench: Workbench) -> Iterator[Row]:
    """Time and equality on the CPU, then on a CUDA device."""
    slices = round(bench.length(450) / 2.5)
    scan = scans.stretched((400, 360, slices), (312.0, 281.0, slices * 2.5))
    config, images = PreparationConfig.published(), {}

    def reference() -> None:
        images["reference"] = published.prepared(scan)

    def ours() -> None:
        images["ours"] = prepare(scan, config, BASE).image

    def warm_up() -> None:
        published.prepared(scans.sample_pair()[1])
        ours()

    times = bench.alternating(30.0, warm_up, reference=reference, ours=ours)
    what = f"Preparation as published to 1 × 1 × 1.5 mm, {size_text(scan)}"
    yield Row.of_times("1", what, FASTER, REFERENCE, times, profile=lambda: functions_profile(ours))
    difference = float(np.abs(images["ours"] - images["reference"]).max())
    yield Row("1", "Largest difference of the two images (0..1)", EQUAL, REFERENCE, ours=difference, unit="")
    yield from _on_cuda(bench, times["reference"], images["reference"], scan)


def _on_cuda(bench: Workbench, reference: Times, expected: np.ndarray, scan: Scan) -> Iterator[Row]:
    what, same = (
        "Preparation as published on the graphics card",
        "Largest difference of the image from the graphics card",
    )
    why = "" if torch.cuda.is_available() else "no GPU on this machine"
    if not why and "device" not in inspect.signature(prepare).parameters:
        why = "preparation runs on the CPU only"
    if why:
        yield from not_measured("1", [(what, FASTER_ON_CUDA), (same, EQUAL)], why)
        return
    images = {}

    def ours() -> None:
        images["ours"] = prepare(scan, PreparationConfig.published(), BASE, device=DEVICE).image
        torch.cuda.synchronize()

    times = {"reference": reference, "ours": bench.alternating(ours=ours)["ours"]}
    yield Row.of_times("1", what, FASTER_ON_CUDA, REFERENCE, times, profile=lambda: functions_profile(ours))
    difference = float(np.abs(images["ours"].cpu().numpy() - expected).max())
    yield Row("1", same, EQUAL, REFERENCE, ours=difference, unit="")
