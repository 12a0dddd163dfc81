"""The worker thread and the task runner."""

import threading
import time

import pytest
from PySide6.QtWidgets import QApplication

from APELocalizerLib.app.worker import Worker
from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.core.base.progress import check_cancelled
from APELocalizerLib.gui.runner import TaskRunner
from APELocalizerLib.scene.tasks import CallTask


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.stop()


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


def test_all_jobs_run_in_one_thread_that_is_not_this_one(worker):
    jobs = [worker.submit(lambda progress, cancelled: threading.current_thread()) for _number in range(3)]
    for job in jobs:
        job.wait(5.0)
    threads = {job.result for job in jobs}
    assert len(threads) == 1 and threads != {threading.current_thread()}
    assert threads.pop().daemon, "Slicer must be able to close while a job runs"


def test_an_error_is_kept_for_the_gui_thread_and_the_next_job_runs(worker):
    broken = worker.submit(lambda progress, cancelled: 1 / 0)
    fine = worker.submit(lambda progress, cancelled: "done")
    fine.wait(5.0)
    assert isinstance(broken.error, ZeroDivisionError) and fine.result == "done"


def test_a_job_that_was_cancelled_before_its_turn_never_starts(worker):
    release, started = threading.Event(), []
    first = worker.submit(lambda progress, cancelled: release.wait(5.0))
    second = worker.submit(lambda progress, cancelled: started.append(1))
    second.cancel()
    release.set()
    second.wait(5.0)
    assert first.finished and started == [] and isinstance(second.error, Cancelled)


def test_a_stopped_worker_ends_its_thread(worker):
    job = worker.submit(lambda progress, cancelled: threading.current_thread())
    job.wait(5.0)
    worker.stop()
    job.result.join(5.0)
    assert not job.result.is_alive()


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
