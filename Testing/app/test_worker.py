"""The worker thread."""

import threading

import pytest

from APELocalizerLib.app.worker import Worker
from APELocalizerLib.core.base.errors import Cancelled


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.stop()


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


@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_ends_a_program_does_not_end_the_thread(worker, ending):
    def end_it_all(progress, cancelled):
        raise ending

    broken = worker.submit(end_it_all)
    fine = worker.submit(lambda progress, cancelled: "done")
    fine.wait(5.0)
    assert fine.result == "done"
    assert broken.finished and type(ending).__name__ in str(broken.error) and broken.error.__cause__ is ending


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
