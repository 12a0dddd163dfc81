"""A copy of the repository in which mutants are tried, so that the working tree is never touched.

What tests import most of their time is imported once; every run is a fork of that process, which costs its tests only.
"""

import compileall
import contextlib
import gc
import importlib
import json
import os
import py_compile
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutants.mutations import Mutant
from mutants.watching import Chosen, Watch

TIMES = 5.0
"""A mutant's tests may take this many times as long as without it; more is a loop without end."""

WAIT = 10
"""Seconds on the clock for every second of the processor: other programs may need it, too."""


NO_TESTS = 5
"""Exit code of pytest."""


@dataclass(frozen=True)
class WatchedTest:
    """A test: how long it takes, and the lines of each file that it runs."""

    id: str
    seconds: float
    lines: dict[Path, frozenset[int]]

    @property
    def file(self) -> str:
        """The file that holds it."""
        return self.id.partition("::")[0]

    def runs(self, path: Path, first: int, last: int) -> bool:
        """Whether it runs one of these lines."""
        return any(first <= line <= last for line in self.lines.get(path, ()))


class BrokenTests(Exception):
    """Tests fail without any mutant."""


class Workshop:
    """A copy of the folders `parts` of a repository; `code` is the folder in it that Python imports from.

    `modules` are imported before the first fork.
    """

    def __init__(self, root: Path, parts: list[str], code: str, modules: list[str], folder: Path) -> None:
        self.root, self._code = folder / "tree", folder / "tree" / code
        self._folder, self._sources = folder, {}
        for part in parts:
            source, target = root / part, self.root / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy2(source, target)
        mode = py_compile.PycInvalidationMode.CHECKED_HASH  # a changed file is read anew, however fast it was changed
        compileall.compile_dir(self._code, quiet=2, invalidation_mode=mode)
        os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(self._code), "PYTHONDONTWRITEBYTECODE": "1"}
        for name in modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        with open(os.devnull, "w") as silence, contextlib.redirect_stderr(silence), contextlib.redirect_stdout(silence):
            importlib.import_module("pytest").main(["--version"])  # loads its plugins
        gc.collect()
        gc.freeze()  # what is there before a fork is not looked through again in it

    def watch(self, files: list[Path], suites: list[str]) -> list[WatchedTest]:
        """Run all tests of the suites, and see which lines of the files they run. Raises `BrokenTests`."""
        report = self._folder / "watched.json"
        watch = Watch([self.root / file for file in files], report)
        code = self._pytest([*suites], [watch], None)
        if code != 0:
            raise BrokenTests(f"The tests of {', '.join(suites)} fail (exit code {code}). Mend them first.")
        tests = []
        for test, (seconds, seen) in json.loads(report.read_text(encoding="utf-8")).items():
            lines: dict[Path, set[int]] = {}
            for number, line in (place.split(":") for place in seen):
                lines.setdefault(files[int(number)], set()).add(int(line))
            tests.append(WatchedTest(test, seconds, {path: frozenset(numbers) for path, numbers in lines.items()}))
        return tests

    def kills(self, mutant: Mutant, tests: list[WatchedTest], seconds: float) -> bool:
        """Whether a test fails with the mutant, or they take longer than `TIMES` their usual time and `seconds`."""
        path = self.root / mutant.path
        original = path.read_text(encoding="utf-8")
        path.write_text(mutant.source, encoding="utf-8")
        try:
            limit = seconds + TIMES * sum(test.seconds for test in tests)
            files = list(dict.fromkeys(test.file for test in tests))
            code = self._pytest(["-x", *files], [Chosen([test.id for test in tests])], limit)
        finally:
            path.write_text(original, encoding="utf-8")
        if code == NO_TESTS:
            raise BrokenTests(f"None of the tests that run {mutant.path}:{mutant.line} was found again.")
        return code != 0

    def _pytest(self, arguments: list[str], plugins: list, limit: float | None) -> int | None:
        """Exit code of pytest in a fork; None or negative if it was ended after `limit` s of the processor's time."""
        child = os.fork()
        if child == 0:
            self._test(arguments, plugins, limit)
        return _waited(child, None if limit is None else WAIT * limit)

    def _test(self, arguments: list[str], plugins: list, limit: float | None) -> None:
        """What a fork does; it never returns."""
        code = 70
        try:
            os.setsid()
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2))
            os.chdir(self.root)
            silence = os.open(self._folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            sys.dont_write_bytecode = limit is not None  # tests are compiled once, by the run without any mutant
            sys.path.insert(0, str(self._code))
            pytest = importlib.import_module("pytest")
            places = [f"--basetemp={self._folder / 'scratch'}", f"--rootdir={self.root}"]
            code = int(
                pytest.main(
                    ["-q", "-p", "no:cacheprovider", "-p", "no:unraisableexception", *places, *arguments], plugins
                )
            )
        finally:
            os._exit(code)


def _waited(child: int, limit: float | None) -> int | None:
    """Exit code of a child; None if it had to be ended after `limit` s. What it started ends with it."""
    start, pause = time.monotonic(), 0.01
    try:
        while limit is None or time.monotonic() - start < limit:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(pause)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


@contextlib.contextmanager
def workshop(root: Path, parts: list[str], code: str, modules: list[str]) -> Iterator[Workshop]:
    """A workshop that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        yield Workshop(root, parts, code, modules, Path(folder))
