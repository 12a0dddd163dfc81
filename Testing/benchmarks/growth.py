"""Goal 8: how the cost grows with the scan and with the number of landmarks."""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np

from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.scan.scan import Scan
from benchmarks import scans, timing
from benchmarks.table import Goal, Row, quantity
from benchmarks.timing import functions_profile
from benchmarks.workbench import Workbench, body_queries

FLAT = Goal("within", 1.25)
LENGTHS_MM = (200, 400, 600, 900, 1200)
COUNTS = (1, 10, 100, 1000, 3000, 10_000)
LONG_MM = 900
TOO_LONG_S = 40.0
QUICK_S = 5.0
"""Up to this a first try is only a warm-up; what takes longer is timed once."""
LIMIT_S = 20.0


def rows(bench: Workbench) -> Iterator[Row]:
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
        profile=lambda: functions_profile(partial(bench.embedder.embed, _torso(bench, LENGTHS_MM[dearest]))),
        remark=f"lengths in turn; scan to map + landmarks of the built-in library: {'; '.join(shown)}",
    )
    by_count = {}
    for what, make in _works(bench).items():
        by_count[what] = _while_affordable(make)
        yield _per_landmark(f"Cost per landmark of {what}", by_count[what], make)
    plot(bench.out / "growth.png", (embedding / liters, (embedding + finding) / liters), by_count)


def _by_length(bench: Workbench) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Volumes in liters, and seconds (medians) from scan to map and from map to landmarks, of the lengths in turn."""
    torsos = {str(length): _torso(bench, length) for length in LENGTHS_MM}
    maps: dict[str, EmbeddingMap] = {}

    def embed(length: str) -> None:
        maps[length] = bench.embedder.embed(torsos[length])

    def find(length: str) -> None:
        localize(maps[length], bench.library, model=bench.default)

    embedding, finding = (
        bench.alternating(LIMIT_S, None, **{length: partial(work, length) for length in torsos})
        for work in (embed, find)
    )
    bench.__dict__.setdefault("long_map", maps[str(LONG_MM)])
    liters = [float(np.prod(np.array(scan.voxels.shape) * scan.spacing)) / 1e6 for scan in torsos.values()]
    seconds = ([times[length].median for length in torsos] for times in (embedding, finding))
    return np.array(liters), *map(np.array, seconds)


def _torso(bench: Workbench, length: float) -> Scan:
    return scans.torso(bench.length(length), slice_mm=1.0)


def _works(bench: Workbench) -> dict[str, Callable[[int], Callable[[], object]]]:
    """By name, what makes the work for a number of landmarks."""
    works = {
        "a search (EmbeddingMap.nearest)": partial(_search, bench.long_map),
        "localize, with round trips": partial(_localize, bench),
    }
    if "refine" in {field.name for field in fields(LocalizationSettings)}:
        settings = LocalizationSettings(refine=False)
        works["localize, without comparing what places look like"] = partial(_localize, bench, settings=settings)
    return {**works, "learn_points": partial(_learn, bench.long_map)}


def _search(long_map: EmbeddingMap, count: int) -> Callable[[], object]:
    queries = body_queries(long_map, count)
    return lambda: long_map.nearest(queries)


def _localize(bench: Workbench, count: int, settings: LocalizationSettings | None = None) -> Callable[[], object]:
    library = library_of(bench.long_map, count)
    return lambda: localize(bench.long_map, library, settings, bench.default)


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
    """Seconds (median of up to three; where it is quick, after one more) by count, until the next would take too long
    by the growth so far."""
    seconds: dict[int, float] = {}
    for count in COUNTS:
        if expected(seconds, count) > TOO_LONG_S:
            break
        work = make(count)
        first = timing.repeated(work, 1, warm_up=False)
        again = timing.repeated(work, 3, warm_up=False, limit_s=3) if first.median < QUICK_S else first
        seconds[count] = again.median
    return seconds


def expected(seconds: dict[int, float], count: int) -> float:
    """Seconds that a count will take, if it grows with the power of the two largest counts so far, at least the first.

    0 when nothing was measured yet.
    """
    if not seconds:
        return 0.0
    *_, before, last = [None, *seconds]
    power = 1.0
    if before:
        power = max(1.0, math.log(seconds[last] / seconds[before]) / math.log(last / before))
    return seconds[last] * (count / last) ** power


def _per_landmark(what: str, seconds: dict[int, float], make: Callable[[int], Callable[[], object]]) -> Row:
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
        profile=lambda: functions_profile(make(1000)),
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
