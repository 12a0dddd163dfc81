"""Goal 2: the network's arithmetic beside the machine's peak, and what tiles and half precision change."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedder import Embedder
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner
from APELocalizerLib.core.preparation.config import PreparedScan
from benchmarks import machine, published, scans
from benchmarks.table import Goal, Row, not_measured
from benchmarks.timing import operators_profile
from benchmarks.workbench import CPU, Workbench

SHARE, SAME_PLACE = Goal("share", 0.75), Goal("at_most", 1.0, "mm")
WHAT = "Published network, one tile of 96 × 96 × 64"
QUERIES = 500
TILED = InferenceSettings(device="cpu", one_pass=False, mixed_precision=False)
ONE_PASS = InferenceSettings(device="cpu", one_pass=True, mixed_precision=False)


def rows(bench: Workbench) -> Iterator[Row]:
    """Speed of a tile in fp32 and bf16, then the differences in retrieval."""
    operations = published.flops(bench.published.network)
    yield from _full_precision(bench, operations)
    yield from _bf16(bench, operations)
    yield from _tiles(bench)


def tile_scan(tiles: int = 1) -> PreparedScan:
    """A prepared scan of exactly so many tiles in a row, all of it body."""
    shape = (tiles * published.TILE[0], *published.TILE[1:])
    image = np.random.default_rng(0).random(shape, np.float32)
    grid = np.array([[0.0, -2.0, 0, 0], [-2.0, 0, 0, 0], [0, 0, -3.0, 0], [0, 0, 0, 1.0]])
    box = Box((-192.0, -192.0 * tiles, -192.0), (0.0, 0.0, 0.0))
    return PreparedScan(image, np.ones(shape, bool), grid, box, "tile", "tile")


def _full_precision(bench: Workbench, operations: int) -> Iterator[Row]:
    prepared, runner = tile_scan(), Runner(bench.published, TILED)
    plain = published.plain_network(bench.published)
    outputs = {}

    def reference() -> None:
        outputs["reference"] = published.embedded(plain, prepared.image)

    def ours() -> None:
        outputs["ours"] = runner.embed(prepared).values

    times = bench.alternating(reference=reference, ours=ours, **machine.gemms(torch.float32))
    scale = np.array(bench.published.scale, np.float32)
    difference = np.abs(outputs["ours"] - outputs["reference"].transpose(1, 2, 3, 0) * scale).max() / scale.max()
    peak = machine.Peak.of(times)
    speed = operations / times["ours"].median
    yield Row(
        "2",
        f"{WHAT} ({operations / 1e9:.2f} GFLOP), fp32",
        SHARE,
        f"torch.mm of {peak.size} × {peak.size}, fp32",
        reference_value=peak.median / 1e9,
        ours=speed / 1e9,
        unit="GFLOP/s",
        more_is_better=True,
        remark=f"{times['ours'].median:.3f} s, {times['ours'].spread}; "
        f"{100 * speed / peak.best:.0f} % of the fastest single product, {peak.best / 1e9:.0f} GFLOP/s",
        profile=lambda: operators_profile(ours),
    )
    reference = "the same network of Conv3d in the default memory format"
    remark = f"outputs (0..1) differ by at most {difference:.1e}"
    yield Row.of_times("2", f"{WHAT}, fp32", None, reference, times, remark=remark)


def _bf16(bench: Workbench, operations: int) -> Iterator[Row]:
    title, moved_title = f"{WHAT}, bf16", "Retrieval difference of bf16 to fp32, default model run in bf16 for this"
    if not machine.has_bf16():
        why = "this processor has no bfloat16 arithmetic"
        yield from not_measured("2", [(title, None), (moved_title, SAME_PLACE)], why)
        return
    prepared = tile_scan()
    runners = [Runner(bench.published, replace(TILED, mixed_precision=half)) for half in (False, True)]
    full, half = (runner.embed(prepared).values for runner in runners)
    in_bf16 = nullcontext if not np.array_equal(full, half) else lambda: torch.autocast("cpu", torch.bfloat16)

    def ours() -> None:
        with in_bf16():
            runners[1].embed(prepared)

    times = bench.alternating(ours=ours, **machine.gemms(torch.bfloat16))
    peak = machine.Peak.of(times)
    how = "mixed_precision of InferenceSettings" if in_bf16 is nullcontext else "under torch.autocast"
    yield Row(
        "2",
        title,
        reference=f"torch.mm of {peak.size} × {peak.size}, bf16",
        reference_value=peak.median / 1e9,
        ours=operations / times["ours"].median / 1e9,
        unit="GFLOP/s",
        more_is_better=True,
        remark=f"{times['ours'].median:.3f} s, {times['ours'].spread}; {how}",
    )
    pair = scans.sample_pair()
    plain, halved = (
        Embedder(bench.default, replace(CPU, mixed_precision=half), bench.reference) for half in (False, True)
    )
    expected = [plain.embed(scan) for scan in pair]
    with in_bf16():
        moved = _moved(expected, [halved.embed(scan) for scan in pair])
    remark = f"{_distribution(moved)}; only networks as wide as the published one use bf16 by themselves, and its map"
    change = np.abs(half - full).max() / max(bench.published.scale)
    remark = f"{remark} (random weights, 0..1) changes by at most {change:.1e}"
    yield Row("2", moved_title, SAME_PLACE, "fp32", ours=_most(moved), unit="mm", remark=remark)


def _tiles(bench: Workbench) -> Iterator[Row]:
    """What a search answers when the maps are made in tiles instead of in one pass, and what the tiles cost."""
    pair = scans.sample_pair()
    whole = Embedder(bench.default, ONE_PASS, bench.reference)
    expected = [whole.embed(scan) for scan in pair]
    error = _landmark_error(expected)
    for overlap in (0.5, 0.25, 0.0):
        tiled = Embedder(bench.default, replace(TILED, overlap=overlap), bench.reference)
        maps = [tiled.embed(scan) for scan in pair]
        times = bench.alternating(
            whole=lambda: whole.embed(pair[1]), tiled=lambda tiled=tiled: tiled.embed(pair[1]), limit_s=5
        )
        moved = _moved(expected, maps)
        yield Row(
            "2",
            f"Retrieval difference of tiles (96 × 96 × 64, overlap {100 * overlap:.0f} %) to one pass",
            reference="default model in one pass",
            ours=_most(moved),
            unit="mm",
            remark=f"{_distribution(moved)}; landmark error {_landmark_error(maps):.0f} mm, in one pass {error:.0f} mm;"
            f" takes {times['tiled'].median / times['whole'].median:.1f} times as long",
        )


def _moved(first: list[EmbeddingMap], second: list[EmbeddingMap]) -> np.ndarray:
    """Distances (n,) in mm between the answers of two ways to make the maps of (support, target).

    Random places in the support's body are looked up in the target, with both maps made in the same way.
    """
    random = np.random.default_rng(0)
    cells = np.argwhere(first[0].body)
    places = first[0].to_ras(cells[random.integers(len(cells), size=QUERIES)])
    answers = [target.nearest(support.embedding_at(places)).points_ras for support, target in (first, second)]
    return np.linalg.norm(answers[0] - answers[1], axis=1)


def _landmark_error(maps: list[EmbeddingMap]) -> float:
    """Median error in mm of the samples' landmarks, looked up from support to target."""
    _, clicked, expected = scans.sample_landmarks()
    found = maps[1].nearest(maps[0].embedding_at(clicked)).points_ras
    return float(np.median(np.linalg.norm(found - expected, axis=1)))


def _distribution(moved: np.ndarray) -> str:
    return f"95 % of {QUERIES} searches within this; median {np.median(moved):.2g} mm, largest {moved.max():.2g} mm"


def _most(moved: np.ndarray) -> float:
    return float(np.percentile(moved, 95))
