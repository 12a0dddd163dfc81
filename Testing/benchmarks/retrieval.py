"""Goal 5: searching the map of a long scan."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.table import Goal, Row
from benchmarks.timing import Times, functions_profile
from benchmarks.workbench import Workbench, body_queries

MANY, ONE = Goal("at_most", 0.05, "s"), Goal("at_most", 0.005, "s")
QUERIES, SINGLE = 1000, 500


def rows(bench: Workbench) -> Iterator[Row]:
    """A thousand queries at once, beside a tree and every distance; then one after another."""
    from scipy.spatial import cKDTree

    long_map = bench.long_map
    cells = long_map.values[long_map.body].astype(np.float32)
    queries = body_queries(long_map, QUERIES)
    tree = cKDTree(cells)
    where = f"on the map of {_size(bench)}: {len(cells)} body cells"

    def ours() -> None:
        long_map.nearest(queries)

    times = bench.alternating(
        every=lambda: every_distance(cells, queries), tree=lambda: tree.query(queries), ours=ours, limit_s=10
    )

    def profile() -> str:
        return functions_profile(lambda: [ours() for _ in range(3)])

    for reference, name in (("NumPy, the distance to every body cell", "every"), ("scipy.spatial.cKDTree", "tree")):
        both = {"reference": times[name], "ours": times["ours"]}
        text, goal = f"{QUERIES:,} queries {where}", MANY if name == "every" else None
        yield Row.of_times("5", text, goal, f"{reference} (no place between cells)", both, profile=profile)
    yield from _single(bench, cells, where)
    first = _each(replace(long_map).nearest, queries[:1])  # a copy of the map, on which nothing was searched yet
    yield Row("5", f"First query {where}, with all that is prepared for searching", ours=first.median)


def _single(bench: Workbench, cells: np.ndarray, where: str) -> Iterator[Row]:
    queries = body_queries(bench.long_map, 50 if bench.quick else SINGLE, seed=1)
    bench.long_map.nearest(queries[:3])
    ours = _each(bench.long_map.nearest, queries)
    reference = _each(lambda query: every_distance(cells, query), queries)
    yield Row(
        "5",
        f"One query, 99th percentile of {len(queries)}, {where}",
        ONE,
        "NumPy, the distance to every body cell",
        reference_value=reference.percentile(99),
        ours=ours.percentile(99),
        remark=f"median {1000 * ours.median:.2g} ms, {ours.spread}",
        profile=lambda: functions_profile(lambda: _each(bench.long_map.nearest, queries)),
    )


def every_distance(cells: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Index of the nearest cell (m, 3) to each query (n, 3), one query after another."""
    return np.array([((cells - query.astype(np.float32)) ** 2).sum(axis=1).argmin() for query in queries])


def _each(search, queries: np.ndarray) -> Times:
    seconds = []
    for query in queries[:, None]:
        start = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - start)
    return Times(tuple(seconds))


def _size(bench: Workbench) -> str:
    low, high = np.array(bench.long_map.field_of_view.minimum), np.array(bench.long_map.field_of_view.maximum)
    return f"a 512 × 512 × {round(high[2] - low[2])} scan ({' × '.join(f'{mm:.0f}' for mm in high - low)} mm)"
