"""Sharing out work over the cores of the machine."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report


def parallel_for(
    work: Callable[[int], None],
    count: int,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
    text: str = "Preparing the scan",
) -> None:
    """Call work(0) … work(count - 1) on all cores; reports progress and raises Cancelled between the pieces."""
    check_cancelled(cancelled)
    executor = ThreadPoolExecutor(max_workers=worker_count())
    try:
        for done, future in enumerate([executor.submit(work, i) for i in range(count)], 1):
            future.result()
            check_cancelled(cancelled)
            report(progress, done / count, text)
    finally:
        executor.shutdown(cancel_futures=True)


def worker_count() -> int:
    """Threads to use: the cores this process may run on, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, cores))
