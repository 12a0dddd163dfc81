"""Goal 3: from a scan in memory to its map, and from a file to all landmarks printed."""

import io
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from APELocalizerLib.core.base.device import multiplies_bfloat16
from APELocalizerLib.core.embedder import Embedder
from APELocalizerLib.core.localization.localize import localize
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from benchmarks import published, scans
from benchmarks.table import Goal, Row
from benchmarks.timing import functions_profile, run_command
from benchmarks.workbench import CPU, Workbench, size_text

DEFAULT, PUBLISHED, READING = Goal("at_most", 1.5, "s"), Goal("at_most", 4.0, "s"), Goal("within", 3)


def rows(bench: Workbench) -> Iterator[Row]:
    """Both networks on one scan, then a file."""
    yield from _default(bench)
    yield from _published(bench)
    yield from _file(bench)


def _default(bench: Workbench) -> Iterator[Row]:
    plain = published.plain_network(bench.default)
    for preset, goal in (("standard", DEFAULT), ("fast", None)):

        def ours(preset: str = preset) -> None:
            bench.embedder.embed(bench.torso, preset)

        def reference(preset: str = preset) -> None:
            usual_default(bench.torso, bench.default, plain, preset)

        times = bench.alternating(ours=ours, reference=reference)
        what = f"Default model, {preset} spacing, scan in memory to map; {size_text(bench.torso)}"
        reference_text = "scipy.ndimage.zoom + Conv3d in the default memory format, same spacings"
        yield Row.of_times("3", what, goal, reference_text, times, profile=lambda ours=ours: functions_profile(ours))


def usual_default(scan: Scan, model: Model, plain: published.PlainNetwork, preset: str) -> None:
    """The default model's passes with the usual building blocks: zoom, window, plain network in one pass, mean."""
    outputs = [
        published.embedded(plain, published.windowed(scan, spacing), tiled=False) for spacing in model.spacings(preset)
    ]
    finest = max(outputs, key=lambda each: each[0].size)
    from scipy import ndimage

    for output in outputs:
        if output is not finest:
            factors = (1, *np.divide(finest.shape[1:], output.shape[1:]))
            ndimage.zoom(output, factors, order=1)


def _published(bench: Workbench) -> Iterator[Row]:
    """By itself in bf16 where the processor is made for it; then also in fp32."""
    plain, spacing = published.plain_network(bench.published), bench.published.spacings("standard")[0]

    def ours() -> None:
        bench.published_embedder.embed(bench.torso)

    def reference() -> None:
        published.embedded(plain, published.prepared(bench.torso, spacing))

    def warm_up() -> None:
        published.embedded(plain, published.prepared(scans.sample_pair()[1], spacing))
        ours()

    times = bench.alternating(20.0, warm_up, ours=ours, reference=reference)
    what = f"Published network (random weights), standard spacing, scan in memory to map; {size_text(bench.torso)}"
    reference_text = "published way: SciPy, scikit-image, default memory format, half-overlapping tiles"
    half = multiplies_bfloat16()
    how = "in bf16, as it runs by itself on this processor" if half else "in fp32"
    more = {"remark": how, "profile": lambda: functions_profile(ours)}
    yield Row.of_times("3", what, PUBLISHED, reference_text, times, **more)
    if half:
        full = Embedder(bench.published, replace(CPU, mixed_precision=False))
        single = bench.alternating(10.0, ours=lambda: full.embed(bench.torso))
        times = {"reference": times["reference"], **single}
        yield Row.of_times("3", f"{what}, fp32", None, f"{reference_text} (timed before)", times)


def _file(bench: Workbench) -> Iterator[Row]:
    slices = round(bench.length(375) / 1.25)
    scan = scans.stretched((512, 512, slices), (350.0, 350.0, slices * 1.25))
    path = scans.written(scan, bench.work / "scan.nii.gz")
    what = f"NIfTI file (.nii.gz, {path.stat().st_size / 1e6:.0f} MB, {size_text(scan)}) to all landmarks"
    del scan

    def reading() -> None:
        sitk.GetArrayViewFromImage(sitk.ReadImage(str(path)))

    def ours() -> None:
        found = localize(bench.embedder.embed(read_scan(path)), bench.library, model=bench.default)
        file = io.StringIO()
        for point in found.points:
            print(point.name, point.status, point.candidate_ras, point.round_trip_mm, file=file)

    times = bench.alternating(reference=reading, ours=ours)
    reference = "SimpleITK.ReadImage of the same file"
    text = f"{what} printed, model loaded"
    yield Row.of_times("3", text, READING, reference, times, profile=lambda: functions_profile(ours))
    command = [sys.executable, "-m", "APELocalizerLib", "localize", path, "--library", "built-in", "--device", "cpu"]
    times = bench.alternating(reference=reading, ours=lambda: run_command([*command, "--out", bench.work / "found"]))
    text = f"{what} written, as `ape-localizer localize` with start-up and map.nrrd"
    yield Row.of_times("3", text, None, reference, times)
