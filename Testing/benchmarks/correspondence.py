"""Goal 9: where every place of one scan lies on another: preparing a pair, and asking for one place."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from APELocalizerLib.core.localization.correspondence import correspond
from benchmarks import scans
from benchmarks.limits_and_registration import REGISTRATION_MM, affine
from benchmarks.table import Goal, Row
from benchmarks.timing import Times, functions_profile
from benchmarks.workbench import Workbench, size_text

PREPARED, ASKED = Goal("at_most", 1.5, "s"), Goal("at_most", 0.005, "s")
PLACES = 500
REFERENCE = f"SimpleITK affine registration at {REGISTRATION_MM:g} mm (Mattes mutual information, 3 levels)"


def rows(bench: Workbench) -> Iterator[Row]:
    """A pair of torsos, the second one narrower; both are embedded before, and the affine registration reads both."""
    pair = bench.torso, scans.torso(bench.length(380), width_mm=330)
    maps = [bench.embedder.embed(scan) for scan in pair]
    images = [scan.to_sitk() for scan in pair]

    def ours() -> None:
        correspond(*(replace(one_map) for one_map in maps))  # copies, of which nothing is ready yet

    times = bench.alternating(reference=lambda: affine(*images), ours=ours)
    what = f"Correspondence of two scans, prepared; {size_text(pair[0])}, and 330 mm wide"
    yield Row.of_times("9", what, PREPARED, REFERENCE, times, profile=lambda: functions_profile(ours))
    correspondence = correspond(*maps)
    cells = maps[0].to_ras(np.argwhere(maps[0].body))
    places = cells[np.random.default_rng(0).integers(len(cells), size=50 if bench.quick else PLACES)]
    seconds = []
    for place in places[:, None]:
        start = time.perf_counter()
        correspondence.to_second(place)
        seconds.append(time.perf_counter() - start)
    asked = Times(tuple(seconds))
    yield Row(
        "9",
        f"One place of it, 99th percentile of {len(places)}",
        ASKED,
        ours=asked.percentile(99),
        remark=f"median {1000 * asked.median:.2g} ms, {asked.spread}",
    )
