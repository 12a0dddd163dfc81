"""Goal 7: opening the module, the command line's help, the first localization and one with a cached map."""

import importlib.util
import json
import statistics
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks import scans
from benchmarks.table import Goal, Row
from benchmarks.timing import FRESH_PROCESS, Times, imports_profile, run_command, run_in_fresh_process
from benchmarks.workbench import Workbench

HELP, FIRST, CACHED = Goal("at_most", 0.3, "s"), Goal("within", 2), Goal("at_most", 0.1, "s")
NO_TORCH = Goal("at_most", 0)
SCENE_NEEDS = ("slicer", "PySide6")


def rows(bench: Workbench) -> Iterator[Row]:
    """Each in fresh processes."""
    yield from _module(bench)
    yield _help(bench)
    path = scans.written(bench.torso, bench.work / "torso.nii")
    yield _first(bench, path)
    yield _first_when_ready(bench, path)
    yield from _cached(bench, path)
    path.unlink()


def _module(bench: Workbench) -> Iterator[Row]:
    what = "Opening the module imports PyTorch, SimpleITK, SciPy or scikit-image: how many"
    if missing := _missing():
        yield Row("7", what, NO_TORCH, remark=missing)
        return
    opened = [run_in_fresh_process("open_module") for _ in range(bench.repeats)]
    seconds = statistics.median(each["seconds"] for each in opened)
    imported = opened[0]["imported"]
    yield Row("7", what, NO_TORCH, ours=len(imported), unit="", remark=f"{', '.join(imported) or 'none'}")
    yield Row("7", "Importing APELocalizer.py in Slicer's Python", ours=seconds, remark=f"median of {len(opened)}")


def _help(bench: Workbench) -> Row:
    def profile() -> str:
        return imports_profile(["-m", "APELocalizerLib", "--help"])

    times = bench.alternating(
        reference=lambda: run_command([sys.executable, "-c", "pass"]),
        ours=lambda: run_command([sys.executable, "-m", "APELocalizerLib", "--help"]),
    )
    return Row.of_times("7", "`ape-localizer --help`", HELP, "Python that does nothing", times, profile=profile)


def _first(bench: Workbench, path) -> Row:
    done = [run_in_fresh_process("first_and_later", path=str(path)) for _ in range(1 if bench.late else 3)]
    first = statistics.median(each["import"] + each["load"] + each["localize"][0] for each in done)
    later = statistics.median(seconds for each in done for seconds in each["localize"][1:])
    parts = {key: statistics.median(each[key] for each in done) for key in ("import", "load")}
    return Row(
        "7",
        "First localization in a process (imports, model and library included), scan in memory",
        FIRST,
        "a later localization in the same process",
        reference_value=later,
        ours=first,
        profile=lambda: imports_profile(
            [*FRESH_PROCESS, "first_and_later", json.dumps({"path": str(path), "repeats": 0})]
        ),
        remark=f"of it imports {parts['import']:.2f} s, model and library {parts['load']:.2f} s, "
        f"the localization {first - sum(parts.values()):.2f} s",
    )


def _first_when_ready(bench: Workbench, path) -> Row:
    what = "First localization in the panel, which got ready in the background while the user chose"
    if missing := _missing():
        return Row("7", what, FIRST, remark=missing)
    done = [run_in_fresh_process("first_after_getting_ready", path=str(path)) for _ in range(1 if bench.late else 3)]
    first = statistics.median(each["localize"][0] for each in done)
    later = statistics.median(seconds for each in done for seconds in each["localize"][1:])
    ready = statistics.median(each["ready"] for each in done)
    remark = f"getting ready took {ready:.2f} s; by the module's logic in a scene, points, boxes and table"
    reference = "a later localization in the same process"
    return Row("7", what, FIRST, reference, reference_value=later, ours=first, remark=remark)


def _cached(bench: Workbench, path) -> Iterator[Row]:
    what = "Another library on the same scan, by the module's logic in a scene"
    if missing := _missing():
        yield Row("7", what, CACHED, remark=missing)
        return
    done = run_in_fresh_process("second_library", path=str(path), repeats=bench.repeats)
    for name, goal, shown, number in (
        ("other library", CACHED, "just opened; points, boxes and table", 0),
        ("other library, ready", None, "which got ready in the background; points, boxes and table", 0),
        ("other library, overlay", None, "just opened; with the color overlay", 1),
    ):
        times = {"reference": Times(tuple(done["first"])), "ours": Times(tuple(done[name]))}
        profile = partial(done["profiles"].__getitem__, number)
        yield Row.of_times("7", f"{what}, {shown}", goal, "the first localization", times, profile=profile)


def _missing() -> str:
    absent = [name for name in SCENE_NEEDS if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} not installed: no Slicer scene here" if absent else ""
