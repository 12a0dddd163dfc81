"""Goal 8: how the cost grows with the scan and with the number of landmarks."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.landmark_library import LandmarkLibrary
from APELocalizerLib.core.learning import learn_points
from APELocalizerLib.core.localization import localize
from benchmarks import scans
from benchmarks.bench import Bench, body_queries
from benchmarks.table import Goal, Row
from benchmarks.timing import alternating

FLAT = Goal("within", 1.25)
LENGTHS_MM = (200, 400, 600, 900, 1200)
COUNTS = (1, 10, 100, 1000, 10_000)
LONG_MM = 900
TOO_LONG_S = 40.0
LIMIT_S = 8.0


def rows(bench: Bench) -> Iterator[Row]:
    """Cost per volume, then per landmark; with the plot."""
    liters, embedding, finding = _by_length(bench)
    per_liter = embedding / liters
    cheapest, dearest = int(per_liter.argmin()), int(per_liter.argmax())
    shown = (f"{mm} mm: {s:.2f} + {more:.2f} s" for mm, s, more in zip(LENGTHS_MM, embedding, finding, strict=True))
    yield Row(
        "8",
        f"Scan to map, per liter of scan: the dearest length, {LENGTHS_MM[dearest]} mm (default model, standard)",
        FLAT,
        f"the cheapest length, {LENGTHS_MM[cheapest]} mm, of {LENGTHS_MM[0]} to {LENGTHS_MM[-1]} mm",
        reference_value=float(per_liter[cheapest]),
        ours=float(per_liter[dearest]),
        remark=f"scan to map + landmarks of the built-in library: {'; '.join(shown)}",
    )
    searched, localized = _by_count(bench)
    yield _per_landmark("Cost per landmark of a search", searched)
    yield _per_landmark("Cost per landmark of localize, with round trips", localized)
    plot(bench.out / "growth.png", (embedding / liters, (embedding + finding) / liters), searched, localized)


def _by_length(bench: Bench) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Volumes in liters, and seconds (medians) from scan to map and from map to landmarks, of the lengths."""
    liters, embedding, finding = [], [], []
    for length in LENGTHS_MM:
        scan, maps = scans.torso(bench.length(length), slice_mm=1.0), []

        def embed(scan=scan, maps=maps) -> None:
            maps[:] = [bench.embedder.embed(scan)]

        def find(maps=maps) -> None:
            localize(maps[0], bench.library, checkpoint=bench.default)

        embed()
        times = alternating({"embed": embed, "find": find}, bench.repeats, warm_up=False, limit_s=LIMIT_S)
        embedding.append(times["embed"].median)
        finding.append(times["find"].median)
        liters.append(float(np.prod(np.array(scan.voxels.shape) * scan.spacing)) / 1e6)
        if length == LONG_MM:
            bench.__dict__.setdefault("long_map", maps[0])
    return np.array(liters), np.array(embedding), np.array(finding)


def _by_count(bench: Bench) -> tuple[dict[int, float], dict[int, float]]:
    """Seconds by number of landmarks: of `EmbeddingMap.nearest`, and of `localize`; without what takes too long."""
    long_map = bench.long_map
    searched = _while_affordable(lambda count: _search(long_map, count))
    localized = _while_affordable(lambda count: _localize(bench, long_map, count))
    return searched, localized


def _search(long_map: EmbeddingMap, count: int):
    queries = body_queries(long_map, count)
    return lambda: long_map.nearest(queries)


def _localize(bench: Bench, long_map: EmbeddingMap, count: int):
    cells = long_map.to_ras(np.argwhere(long_map.body))
    chosen = cells[np.random.default_rng(0).integers(len(cells), size=count)]
    points = {f"landmark {number}": place for number, place in enumerate(chosen)}
    library = learn_points(LandmarkLibrary(), long_map, points)
    return lambda: localize(long_map, library, checkpoint=bench.default)


def _while_affordable(make) -> dict[int, float]:
    """Seconds (the shortest of up to three) by count, until ten times as many would take too long."""
    seconds: dict[int, float] = {}
    for count in COUNTS:
        if seconds and 10 * min(seconds[max(seconds)], np.inf) > TOO_LONG_S:
            break
        work, tries = make(count), []
        for _ in range(3):
            start = time.perf_counter()
            work()
            tries.append(time.perf_counter() - start)
            if sum(tries) > 3:
                break
        seconds[count] = min(tries)
    return seconds


def _per_landmark(what: str, seconds: dict[int, float]) -> Row:
    most = max(seconds)
    told = "; ".join(f"{count:,}: {1000 * each:.3g} ms" for count, each in seconds.items())
    if most < COUNTS[-1]:
        return Row("8", what, FLAT, remark=f"{COUNTS[-1]:,} would take more than {TOO_LONG_S:g} s ({told})")
    return Row(
        "8",
        f"{what}, {most:,} landmarks, map of a {LONG_MM} mm scan",
        FLAT,
        "per landmark of 100 landmarks",
        reference_value=seconds[100] / 100,
        ours=seconds[most] / most,
        remark=told,
    )


def plot(path: Path, per_liter: tuple[np.ndarray, np.ndarray], searched: dict, localized: dict) -> None:
    """Draw the costs (s per liter to the map and to the landmarks; s by count); nothing where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for label, values in zip(("scan to map", "scan to landmarks of the built-in library"), per_liter, strict=True):
        left.plot(LENGTHS_MM, values, "o-", label=label)
    left.set(xlabel="length of the scan (mm)", ylabel="s per liter of scan", title="Cost by length of the scan")
    left.set_ylim(bottom=0)
    for label, values in (("EmbeddingMap.nearest", searched), ("localize, with round trips", localized)):
        right.loglog(list(values), [1000 * each / count for count, each in values.items()], "o-", label=label)
    right.set(xlabel="landmarks", ylabel="ms per landmark", title=f"Cost by landmarks, map of a {LONG_MM} mm scan")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
