"""Goal 4: the whole way on a CUDA device."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from APELocalizerLib.core.embedder import Embedder
from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import localize
from benchmarks import machine, published
from benchmarks.network import tile_scan
from benchmarks.table import Goal, Row, not_measured
from benchmarks.timing import functions_profile
from benchmarks.workbench import Workbench, size_text

DEVICE = "cuda"
CUDA = InferenceSettings(device=DEVICE, cpu_fallback=False)
END_TO_END, STABLE = Goal("at_most", 0.1, "s"), Goal("at_most", 0.0, "mm")
LANDMARKS, TILES = 100, 16
TITLES = (
    ("Published network (random weights), scan in host memory to landmarks, standard spacing, GPU", END_TO_END),
    ("Largest difference between two runs on the GPU", STABLE),
    ("Published network, 16 tiles of 96 × 96 × 64, share of the card's bf16 peak", None),
    ("Copy in the card's memory, read and written", None),
    ("Copy of the scan from host memory to the card", None),
)


def rows(bench: Workbench) -> Iterator[Row]:
    """End to end, stability, and the card's limits."""
    if not torch.cuda.is_available():
        yield from not_measured("4", TITLES, "no GPU on this machine")
        return
    yield from _end_to_end(bench)
    yield _share(bench)
    yield from _bandwidth(bench)


def _end_to_end(bench: Workbench) -> Iterator[Row]:
    embedder, cpu = Embedder(bench.published, CUDA), bench.published_embedder
    support = embedder.embed(bench.torso)
    cells = support.to_ras(np.argwhere(support.body))
    chosen = np.random.default_rng(0).integers(len(cells), size=LANDMARKS)
    library = learn_points(LandmarkLibrary(), support, {f"landmark {n}": cells[cell] for n, cell in enumerate(chosen)})

    def on_card() -> None:
        localize(embedder.embed(bench.torso), library, model=bench.published)

    def on_cpu() -> None:
        localize(cpu.embed(bench.torso), library, model=bench.published)

    times = bench.alternating(reference=on_cpu, ours=on_card)
    what = f"{TITLES[0][0]}; {size_text(bench.torso)}, {LANDMARKS} landmarks"
    more = {
        "remark": "the published network's paper reports 0.07 s on its GPU, without preparation",
        "profile": lambda: functions_profile(on_card),
    }
    yield Row.of_times("4", what, END_TO_END, "the same on this machine's CPU", times, **more)
    first, second = (embedder.embed(bench.torso) for _ in range(2))
    difference = float(np.abs(first.values - second.values).max())
    yield Row("4", TITLES[1][0], STABLE, "the first run", ours=difference, unit="mm", remark="0: bit-stable")


def _share(bench: Workbench) -> Row:
    runner = Runner(bench.published, replace(CUDA, one_pass=False, overlap=0.0, batch_size=TILES))
    prepared = tile_scan(TILES)
    operations = TILES * published.flops(bench.published.network)
    times = bench.alternating(ours=lambda: runner.embed(prepared), **machine.gemms(torch.bfloat16, DEVICE))
    peak = machine.Peak.of(times)
    return Row(
        "4",
        TITLES[2][0],
        reference=f"torch.mm of {peak.size} × {peak.size}, bf16",
        reference_value=peak.median / 1e9,
        ours=operations / times["ours"].median / 1e9,
        unit="GFLOP/s",
        more_is_better=True,
        remark=f"{times['ours'].median:.4f} s with transfers and stitching, {times['ours'].spread}",
    )


def _bandwidth(bench: Workbench) -> Iterator[Row]:
    source = torch.ones(1 << 28, device=DEVICE)
    target = torch.empty_like(source)

    def on_card() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    voxels = torch.from_numpy(bench.torso.voxels.T.copy())
    pinned, received = voxels.pin_memory(), torch.empty_like(voxels, device=DEVICE)

    def upload() -> None:
        received.copy_(pinned)
        torch.cuda.synchronize()

    def upload_pageable() -> None:
        received.copy_(voxels)
        torch.cuda.synchronize()

    times = bench.alternating(on_card=on_card, reference=upload_pageable, ours=upload)
    speed = 2 * source.nbytes / times["on_card"].median / 1e9
    yield Row("4", TITLES[3][0], ours=speed, unit="GB/s", more_is_better=True)
    what = f"{TITLES[4][0]}, {voxels.nbytes / 1e6:.0f} MB"
    yield Row.of_times("4", what, None, "from memory that is not pinned", times)
