"""Measuring: alternating repeats, medians, commands in processes of their own, and where the time goes."""

import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FRESH_PROCESS = ("-m", "benchmarks.fresh_process")
SAMPLING_S = 0.002


@dataclass(frozen=True)
class Times:
    """Seconds of the repeats of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the repeats in s."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> str:
        """How often it was measured, and shortest and longest, as a text."""
        if len(self.seconds) == 1:
            return "once"
        return f"{len(self.seconds)} times, {min(self.seconds):.3g} to {max(self.seconds):.3g} s"

    def percentile(self, percent: float) -> float:
        """Seconds that `percent` of the repeats do not exceed (the next longer repeat, not interpolated)."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def alternating(
    works: Mapping[str, Callable[[], object]], repeats: int, warm_up: bool = True, limit_s: float = 60.0
) -> dict[str, Times]:
    """Time several things in turn, so that a change of the machine's pace meets all of them.

    Every thing runs once unmeasured first (`warm_up`), then up to `repeats` rounds in alternating order; no new round
    begins when all rounds so far took `limit_s`, and there is always one.
    """
    if warm_up:
        for work in works.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    names, begin = list(works), time.perf_counter()
    for number in range(max(1, repeats)):
        for name in names if number % 2 == 0 else reversed(names):
            gc.collect()
            start = time.perf_counter()
            works[name]()
            seconds[name].append(time.perf_counter() - start)
        if time.perf_counter() - begin > limit_s:
            break
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def repeated(work: Callable[[], object], repeats: int, warm_up: bool = True, limit_s: float = 60.0) -> Times:
    """Time one thing."""
    return alternating({"it": work}, repeats, warm_up, limit_s)["it"]


# Other processes ------------------------------------------------------------------------------------------------------


def run_command(words: list[object], timeout_s: float = 300.0) -> tuple[str, float]:
    """Run a command and wait for it: what it printed, and the seconds it took.

    Raises RuntimeError with the command's last line if it fails or takes longer than `timeout_s`.
    """
    start = time.perf_counter()
    output = _finished(words, timeout_s).stdout
    return output, time.perf_counter() - start


def _finished(words: list[object], timeout_s: float) -> subprocess.CompletedProcess:
    shown = " ".join(map(str, words[:4]))
    try:
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, env=environment(), timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{shown} … took longer than {timeout_s:g} s") from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise RuntimeError(f"{shown} … ended with {done.returncode}: {last[0]}")
    return done


def run_in_fresh_process(name: str, **arguments: object) -> dict:
    """What a function of `fresh_process.py` returns in a fresh Python process."""
    output, _ = run_command([sys.executable, *FRESH_PROCESS, name, json.dumps(arguments)])
    return json.loads(output.strip().splitlines()[-1])


def peak_rss() -> int:
    """The most memory in bytes that this process has held since it began."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count the parent's memory before the program was loaded
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def environment() -> dict[str, str]:
    """Environment of the processes: the code of this repository, found as an installed package is."""
    folders = [str(ROOT / "APELocalizer"), str(ROOT / "Testing"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}


# Where the time goes --------------------------------------------------------------------------------------------------


def functions_profile(work: Callable[[], object], top: int = 8) -> str:
    """Share of the samples of all threads in each function of this library, the innermost counting; as lines."""
    counts: Counter[str] = Counter()
    stopped = threading.Event()
    own = threading.get_ident()

    def sample() -> None:
        mine = threading.get_ident()
        while not stopped.wait(SAMPLING_S):
            for ident, frame in sys._current_frames().items():
                name = _innermost(frame)
                if ident != mine and name and not (ident == own and name.endswith(".parallel_for")):
                    counts[name] += 1

    sampler = threading.Thread(target=sample, daemon=True)
    start = time.perf_counter()
    sampler.start()
    work()
    seconds = time.perf_counter() - start
    stopped.set()
    sampler.join()
    total = sum(counts.values()) or 1
    lines = [f"{100 * count / total:5.1f} %  {name}" for name, count in counts.most_common(top)]
    return "\n".join([f"{seconds:.3g} s in all; of the samples of all threads:", *lines])


def _innermost(frame) -> str | None:
    while frame is not None:
        file = frame.f_code.co_filename
        if "APELocalizerLib" in file:
            return f"{Path(file).stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return None


def operators_profile(work: Callable[[], object], top: int = 8) -> str:
    """Share of the processor's time in each operator of PyTorch; as lines."""
    from torch.profiler import ProfilerActivity, profile

    work()
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    seconds = time.perf_counter() - start
    operators = sorted(recorded.key_averages(), key=lambda each: -each.self_cpu_time_total)
    total = sum(each.self_cpu_time_total for each in operators) or 1
    lines = [
        f"{100 * each.self_cpu_time_total / total:5.1f} %  {each.key} ({each.count} calls)" for each in operators[:top]
    ]
    return "\n".join([f"{seconds:.3g} s in all; of the time in PyTorch's operators:", *lines])


def imports_profile(words: list[object], top: int = 8) -> str:
    """Time that Python takes to import each package when it runs with these words; as lines."""
    lines = _finished([sys.executable, "-X", "importtime", *words], 120).stderr.splitlines()
    parsed = [line.removeprefix("import time:").split("|") for line in lines if line.startswith("import time:")]
    seconds: Counter[str] = Counter()
    for own, _, name in parsed[1:]:  # the first line is the heading
        seconds[name.strip().partition(".")[0]] += int(own) / 1e6
    most = seconds.most_common(top)
    shown = [f"{value:6.3f} s  {name}" for name, value in most]
    return "\n".join([f"{sum(seconds.values()):.3g} s of importing in all; by package:", *shown])
