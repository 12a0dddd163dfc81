"""The benchmark's command line: measures goal by goal, prints each row, writes the report."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import (
    correspondence,
    gpu,
    growth,
    limits_and_registration,
    machine,
    memory,
    network,
    preparation,
    report,
    retrieval,
    scan_to_map,
    scans,
    start_up,
)
from benchmarks.table import Row, markdown
from benchmarks.timing import ROOT
from benchmarks.workbench import Workbench

Part = Callable[[Workbench], Iterator[Row]]

PARTS: dict[str, Part] = {
    "beside": limits_and_registration.rows,
    "1": preparation.rows,
    "2": network.rows,
    "3": scan_to_map.rows,
    "8": growth.rows,
    "5": retrieval.rows,
    "9": correspondence.rows,
    "7": start_up.rows,
    "6": memory.rows,
    "4": gpu.rows,
}
"""In the order of measuring: 8 makes the map that 5 searches. The table is in the goals' order."""

BUSY_CORES = 0.2
"""Cores busy with other processes from which on the report says that the machine was not free."""


def main(argv: list[str] | None = None) -> int:
    """Measure and write; 1 if a measurement failed, which is not the same as a missed goal."""
    arguments = _parser().parse_args(argv)
    out = arguments.out or (ROOT / "out" / "bench" if arguments.quick or arguments.only else report.FOLDER)
    start, others, lines = time.perf_counter(), machine.OtherLoad(), machine.description()
    print("\n".join(lines), flush=True)
    work = Path(tempfile.mkdtemp(prefix="apelocalizer-bench-"))
    bench, rows, profiles, failures = Workbench(out, work, arguments.quick), [], {}, []
    try:
        for name in [name for name in PARTS if not arguments.only or name in arguments.only]:
            for row in measured(name, PARTS[name], bench, profiles, failures):
                rows.append(row)
                print(f"{time.perf_counter() - start:4.0f} s {shown(row)}", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    rows.sort(key=lambda row: row.number or "beside")
    minutes = (time.perf_counter() - start) / 60
    remarks = [scans.source_text(), f"The run took {minutes:.1f} minutes.", *_warnings(arguments, others.cores())]
    report.write(out, report.report(rows, lines, remarks, profiles), rows)
    print(f"\n{markdown(rows)}\n{report.summary(rows)} {minutes:.1f} minutes. Written to {out}.")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def measured(name: str, part: Part, bench: Workbench, profiles: dict[str, str], failures: list[str]) -> Iterator[Row]:
    """The rows of one part; an error becomes a row that says it, and the other parts go on.

    The profile of a missed goal is taken at once, while all that it needs is there.
    """
    try:
        for row in part(bench):
            yield row
            if row.met is False and row.profile:
                profiles[f"Goal {row.number}: {row.what}"] = row.profile()
    except Exception as error:  # whatever breaks in one part must not lose the minutes of the others
        failures.append(f"{name}: {type(error).__name__}: {error}")
        number = name if name.isdigit() else ""
        yield Row(number, "The rest of this part", remark=f"failed: {type(error).__name__}: {error}")


def shown(row: Row) -> str:
    """One row on the terminal."""
    number, what, target, _, reference, ours, ratio, verdict, remark = row.cells()
    result = f"{ours}" + (f" (reference {reference}, ratio {ratio})" if reference else "")
    return f"[{number or '-'}] {what}: {result or verdict}{f'; target {target}: {verdict}' if target else ''}. {remark}"


def _warnings(arguments: argparse.Namespace, other_cores: float | None) -> list[str]:
    warnings = []
    if arguments.quick:
        warnings.append("**A quick run**: shorter scans, everything once and cold. Its numbers say nothing.")
    if arguments.only:
        warnings.append(f"**Not all goals**: only {', '.join(arguments.only)}.")
    if other_cores is None:
        warnings.append("Whether other processes were busy meanwhile is not known.")
    else:
        busy = f"Other processes kept {other_cores:.1f} of {machine.cores()} cores busy meanwhile"
        warnings.append(f"**{busy}: the numbers are not to be trusted.**" if other_cores > BUSY_CORES else f"{busy}.")
    return warnings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--out", type=Path, help=f"folder of the report (default {report.FOLDER.relative_to(ROOT)})")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), metavar="GOAL", help="some goals: 1 … 9, beside")
    parser.add_argument("--quick", action="store_true", help="short scans, once: to try the benchmark itself")
    return parser
