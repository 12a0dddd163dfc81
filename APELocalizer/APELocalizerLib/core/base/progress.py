"""Progress and cancellation, passed as two plain callables so that the core knows no user interface."""

from collections.abc import Callable

from APELocalizerLib.core.base.errors import Cancelled

Progress = Callable[[float, str], None]
"""Called with a fraction from 0 to 1 and a short text."""

CancelCheck = Callable[[], bool]
"""Returns True once the user wants to stop."""


def report(progress: Progress | None, fraction: float, text: str) -> None:
    """Report progress if anybody listens."""
    if progress is not None:
        progress(min(max(fraction, 0.0), 1.0), text)


def check_cancelled(cancelled: CancelCheck | None) -> None:
    """Raise `Cancelled` if the user asked to stop."""
    if cancelled is not None and cancelled():
        raise Cancelled()


def sub_progress(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """Return a progress callable whose 0..1 fills the part [start, stop] of `progress`."""
    if progress is None:
        return None
    return lambda fraction, text: progress(start + (stop - start) * fraction, text)
