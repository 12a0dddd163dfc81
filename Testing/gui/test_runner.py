"""The task runner: the worker's outcomes in the GUI thread."""

import threading
import time

import pytest
from PySide6.QtWidgets import QApplication

from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.core.base.progress import check_cancelled
from APELocalizerLib.gui.runner import TaskRunner
from APELocalizerLib.scene.tasks import CallTask


@pytest.fixture
def runner(application):
    runner = TaskRunner()
    yield runner
    runner.stop()


def let_qt_work(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        QApplication.processEvents()


def test_outcomes_and_errors_come_back_in_the_gui_thread(runner):
    ended = []

    def end(what) -> None:
        ended.append((what, threading.current_thread() is threading.main_thread()))

    runner.start("a", CallTask(lambda progress, cancelled: 42), end, end)
    let_qt_work(lambda: ended)
    assert ended == [(42, True)] and runner.owner is None
    runner.start("b", CallTask(lambda progress, cancelled: [][1]), pytest.fail, end)
    let_qt_work(lambda: len(ended) == 2)
    assert isinstance(ended[1][0], IndexError) and ended[1][1]


def test_an_error_while_finishing_is_reported(runner):
    class Broken(CallTask):
        def finish(self, computed):
            raise KeyError(computed)

    errors = []
    runner.start("a", Broken(lambda progress, cancelled: 1), pytest.fail, errors.append)
    let_qt_work(lambda: errors)
    assert isinstance(errors[0], KeyError) and not runner.busy


def test_a_cancel_in_the_last_moment_still_counts(runner):
    finished = []

    class Watched(CallTask):
        def finish(self, computed):
            finished.append(computed)

    errors, computed = [], threading.Event()
    runner.start("a", Watched(lambda progress, cancelled: computed.set()), pytest.fail, errors.append)
    computed.wait(5.0)
    runner.cancel()
    let_qt_work(lambda: errors)
    assert isinstance(errors[0], Cancelled) and finished == []


def test_an_abandoned_task_is_never_heard_of_again(runner):
    started, stopped = threading.Event(), threading.Event()

    def work(progress, cancelled):
        started.set()
        try:
            while True:
                check_cancelled(cancelled)
        finally:
            stopped.set()

    runner.start("a", CallTask(work), pytest.fail, pytest.fail)
    assert started.wait(5.0)
    runner.abandon()
    assert not runner.busy and stopped.wait(5.0)
    ended = []
    runner.start("b", CallTask(lambda progress, cancelled: "next"), ended.append, pytest.fail)
    let_qt_work(lambda: ended)
    assert ended == ["next"]


def test_only_one_task_runs_at_a_time(runner):
    release, ended = threading.Event(), []
    runner.start("a", CallTask(lambda progress, cancelled: release.wait(5.0)), ended.append, pytest.fail)
    runner.start("b", CallTask(lambda progress, cancelled: pytest.fail()), pytest.fail, pytest.fail)
    assert runner.owner == "a"
    release.set()
    let_qt_work(lambda: ended)


def test_an_idle_runner_does_not_poll(runner):
    ended = []
    runner.start("a", CallTask(lambda progress, cancelled: 1), ended.append, pytest.fail)
    runner.in_background(lambda progress, cancelled: 2, lambda job: ended.append(job.result))
    assert runner._timer.active
    let_qt_work(lambda: sorted(ended) == [1, 2])
    assert not runner._timer.active
