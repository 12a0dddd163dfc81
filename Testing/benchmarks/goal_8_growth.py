"""Goal 8: how the cost grows with the scan and with the number of landmarks."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.landmark_library import LandmarkLibrary
from APELocalizerLib.core.learning import learn_points
from APELocalizerLib.core.localization import localize
from benchmarks import scans
from benchmarks.bench import Bench, body_queries
from benchmarks.table import Goal, Row, quantity
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
    by_count = {
        "a search (EmbeddingMap.nearest)": _while_affordable(lambda count: _search(bench.long_map, count)),
        "localize, with round trips": _while_affordable(lambda count: _localize(bench, count)),
        "learn_points": _while_affordable(lambda count: _learn(bench.long_map, count)),
    }
    for what, seconds in by_count.items():
        yield _per_landmark(f"Cost per landmark of {what}", seconds)
    plot(bench.out / "growth.png", (embedding / liters, (embedding + finding) / liters), by_count)


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


def _search(long_map: EmbeddingMap, count: int) -> Callable[[], object]:
    queries = body_queries(long_map, count)
    return lambda: long_map.nearest(queries)


def _localize(bench: Bench, count: int) -> Callable[[], object]:
    library = library_of(bench.long_map, count)
    return lambda: localize(bench.long_map, library, checkpoint=bench.default)


def _learn(long_map: EmbeddingMap, count: int) -> Callable[[], object]:
    points = {f"landmark {number}": place for number, place in enumerate(_body_places(long_map, count))}
    return lambda: learn_points(LandmarkLibrary(), long_map, points)


def library_of(long_map: EmbeddingMap, count: int) -> LandmarkLibrary:
    """A library of random landmarks of a map, put together from one that was learned there."""
    places = _body_places(long_map, count)
    library = learn_points(LandmarkLibrary(), long_map, {"landmark": places[0]})
    (learned,) = library.landmarks
    (shot,) = learned.shots
    landmarks = (
        replace(learned, name=f"landmark {number}", shots=(replace(shot, position_ras=at, embedding=embedding),))
        for number, (at, embedding) in enumerate(
            zip(map(tuple, places), map(tuple, long_map.embedding_at(places)), strict=True)
        )
    )
    return replace(library, landmarks=tuple(landmarks))


def _body_places(long_map: EmbeddingMap, count: int) -> np.ndarray:
    cells = long_map.to_ras(np.argwhere(long_map.body))
    return cells[np.random.default_rng(0).integers(len(cells), size=count)]


def _while_affordable(make: Callable[[int], Callable[[], object]]) -> dict[int, float]:
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
    told = "; ".join(f"{count:,}: {quantity(each, 's')}" for count, each in seconds.items())
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


def plot(path: Path, per_liter: tuple[np.ndarray, np.ndarray], by_count: dict[str, dict[int, float]]) -> None:
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
    for label, values in by_count.items():
        right.loglog(list(values), [1000 * each / count for count, each in values.items()], "o-", label=label)
    right.set(xlabel="landmarks", ylabel="ms per landmark", title=f"Cost by landmarks, map of a {LONG_MM} mm scan")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
