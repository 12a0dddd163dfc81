"""One task at a time: started by a button, computed by the worker, finished in the GUI thread."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import qt

from APELocalizerLib.app.worker import Job, Work, Worker
from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.scene.tasks import Task

POLL_MS = 2
YIELD_S = 0.02
"""Time given to the worker at each poll: while Qt waits for events, Slicer's GUI thread may keep Python to itself."""


@dataclass(frozen=True)
class _Running:
    """The task that runs, the button that started it, and who is told of its end."""

    owner: str
    task: Task
    job: Job
    on_done: Callable[[Any], None]
    on_error: Callable[[Exception], None]


class TaskRunner:
    """Runs tasks and tells its listeners whenever something changed.

    `listeners` are called without arguments after every change of `owner`, `progress` or `cancelling`; the callable
    given to `start` gets the finished task's outcome, the one given to `on_error` what was raised instead (`Cancelled`
    after a cancel).
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self.listeners: list[Callable[[], None]] = []
        self._worker = worker or Worker()
        self._running: _Running | None = None
        self._background: list[tuple[Job, Callable[[Job], None]]] = []
        self._preparing: Job | None = None
        self._timer = qt.QTimer()
        self._timer.interval = POLL_MS
        self._timer.timeout.connect(self._poll)

    @property
    def busy(self) -> bool:
        """Whether a task runs."""
        return self._running is not None

    @property
    def owner(self) -> str | None:
        """The button that the running task was started with, or None."""
        return self._running.owner if self._running else None

    @property
    def in_background_now(self) -> bool:
        """Whether something started by `in_background` is not done yet."""
        return bool(self._background)

    @property
    def cancelling(self) -> bool:
        """Whether the running task was asked to stop."""
        return self._running is not None and self._running.job.cancelled

    @property
    def progress(self) -> tuple[float, str]:
        """Fraction 0..1 and text of the running task."""
        return self._running.job.progress if self._running else (0.0, "")

    def start(
        self,
        owner: str,
        task: Task,
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Start a task for the button called `owner`; does nothing while another one runs."""
        if self.busy:
            return
        self.stop_preparing()
        self._running = _Running(owner, task, self._worker.submit(task.run), on_done, on_error)
        self._timer.start()
        self._changed()

    def in_background(self, work: Work, on_end: Callable[[Job], None]) -> None:
        """Do something short beside the task, without a button; `on_end` gets the finished job."""
        self._add(self._worker.submit(work), on_end)

    def prepare(self, work: Work, on_end: Callable[[Job], None]) -> None:
        """Do in the background what makes later tasks faster; stopped by the next task, or by the next of its kind."""
        self.stop_preparing()
        self._preparing = self._worker.submit(work)
        self._add(self._preparing, on_end)

    def cancel(self) -> None:
        """Ask the running task to stop; its end is reported as `Cancelled`."""
        if self._running is not None:
            self._running.job.cancel()
            self._changed()

    def abandon(self) -> None:
        """Forget the running task: it stops by itself, and nothing of it reaches the scene or the listeners."""
        self.stop_preparing()
        if self._running is not None:
            self._running.job.cancel()
            self._forget()
            self._changed()

    def stop(self, at_last: Callable[[], None] | None = None) -> None:
        """The panel closes: forget the task and let the thread end, after it did `at_last`."""
        self.listeners.clear()
        self._background.clear()
        self.abandon()
        if at_last is not None:
            self._worker.submit(lambda progress, cancelled: at_last())
        self._worker.stop()

    def _poll(self) -> None:
        self._poll_background()
        running = self._running
        if running is None:
            return
        job = running.job
        job.wait(YIELD_S)
        if not job.finished:
            self._changed()
            return
        self._forget()
        outcome, error = None, Cancelled() if job.cancelled else job.error
        if error is None:
            try:
                outcome = running.task.finish(job.result)
            except Exception as raised:
                error = raised
        self._changed()  # first: a message that is shown now must not stand before a panel that looks busy
        if error is None:
            running.on_done(outcome)
        else:
            running.on_error(error)

    def _poll_background(self) -> None:
        if self._background:
            self._background[0][0].wait(YIELD_S)  # the worker does them in this order
        while self._background and self._background[0][0].finished:
            job, on_end = self._background.pop(0)  # before `on_end`, which may let Qt work, and so poll again
            on_end(job)
        self._stop_timer_when_idle()

    def _add(self, job: Job, on_end: Callable[[Job], None]) -> None:
        self._background.append((job, on_end))
        self._timer.start()

    def stop_preparing(self) -> None:
        """Let go of what `prepare` began: it ends at its next check."""
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None

    def _forget(self) -> None:
        self._running = None
        self._stop_timer_when_idle()

    def _stop_timer_when_idle(self) -> None:
        if self._running is None and not self._background:
            self._timer.stop()

    def _changed(self) -> None:
        for listener in list(self.listeners):
            listener()
