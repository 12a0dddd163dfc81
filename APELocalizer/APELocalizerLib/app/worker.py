"""Work off the GUI thread: one thread that stays, so that the network and cuDNN's plans stay warm in it.

The work gets two callables, `progress` and `cancelled`, and touches neither Qt nor MRML. Nothing here does either.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any

from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.core.base.progress import CancelCheck, Progress

Work = Callable[[Progress, CancelCheck], Any]


class Job:
    """One piece of work: written by the worker thread, read by the GUI thread."""

    def __init__(self, work: Work) -> None:
        self._work: Work | None = work  # let go of once it is done, with all that it holds
        self._stop = threading.Event()
        self._finished = threading.Event()
        self.progress: tuple[float, str] = (0.0, "")
        self.result: Any = None
        self.error: Exception | None = None

    def cancel(self) -> None:
        """Ask the work to stop; it does at its next check."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._stop.is_set()

    @property
    def finished(self) -> bool:
        """Whether `result` or `error` is final."""
        return self._finished.is_set()

    def wait(self, seconds: float) -> None:
        """Wait at most that long for the end. Waiting lets go of Python, which the worker needs to go on."""
        self._finished.wait(seconds)

    def run(self) -> None:
        """Do the work; whatever it raises is kept for the GUI thread, and the worker lives on."""
        try:
            if self.cancelled or self._work is None:
                raise Cancelled()
            self.result = self._work(self._report, self._stop.is_set)
        except Exception as error:
            self.error = error
        except BaseException as ending:  # such as SystemExit of a library: it must not end the thread
            self.error = RuntimeError(f"the work was ended by {type(ending).__name__}: {ending}")
            self.error.__cause__ = ending
        finally:
            self._work = None
            self._finished.set()

    def _report(self, fraction: float, text: str) -> None:
        self.progress = (fraction, text)


class Worker:
    """A daemon thread that does jobs one after the other. It starts with the first job."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, work: Work) -> Job:
        """Queue the work and return at once."""
        job = Job(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="APELocalizer", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return job

    def stop(self) -> None:
        """Let the thread end after the jobs that were submitted."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _loop(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            job.run()
            del job  # a waiting thread keeps neither scans nor maps alive
