"""pytest plugins: one watches which lines every test runs, one keeps only the tests that were chosen."""

import json
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

Line = tuple[str, int]


class Watch:
    """Writes, for every test, how long it takes and which lines of the watched files it runs, its fixtures included.

    Lines that run while a file is imported belong to no test.
    """

    def __init__(self, files: list[Path], report: Path) -> None:
        self._files = {str(file): str(number) for number, file in enumerate(files)}
        self._report, self._lines = report, set()
        self._of_fixture, self._of_test, self._seconds = defaultdict(set), defaultdict(set), defaultdict(float)

    def _trace(self, frame, event, _argument):
        number = self._files.get(frame.f_code.co_filename)
        if number is None:
            return None
        self._lines.add(f"{number}:{frame.f_lineno}")
        return self._trace

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item) -> Iterator[None]:
        """Watch one test."""
        self._lines = set()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            self._of_test[item.nodeid] |= self._lines
            for fixtures in item._fixtureinfo.name2fixturedefs.values():
                for fixture in fixtures:
                    self._of_test[item.nodeid] |= self._of_fixture[fixture]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef) -> Iterator[object]:
        """Lines that a fixture runs belong to all tests that use it, not only to the first."""
        outer, self._lines = self._lines, set()
        try:
            return (yield)
        finally:
            self._of_fixture[fixturedef] |= self._lines
            self._lines |= outer

    def pytest_runtest_logreport(self, report) -> None:
        """How long setting up, running and tearing down took."""
        self._seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Write what was seen."""
        seen = {test: [self._seconds[test], sorted(lines)] for test, lines in self._of_test.items()}
        self._report.write_text(json.dumps(seen), encoding="utf-8")


class Chosen:
    """Keeps these tests, in this order, and ends the process with the first that fails."""

    def __init__(self, tests: list[str]) -> None:
        self._rank = {test: number for number, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list) -> None:
        """Drop the others."""
        items[:] = sorted((item for item in items if item.nodeid in self._rank), key=lambda i: self._rank[i.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One failure is enough; what is left of the session is removed with its folder."""
        if report.failed:
            os._exit(1)
