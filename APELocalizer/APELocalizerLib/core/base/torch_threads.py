"""How many threads PyTorch starts by itself, where work is shared out over threads already."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _OneThreadEach:
    """The one setting of the whole process that this code changes, for as long as somebody is within.

    PyTorch offers no other way: it keeps the count for every thread by itself, but threads that are new to it, as those
    of an executor are, take the count that was set last by any thread. Left alone, each of ours would start as many as
    there are cores, for work too small for even two, and they would wait for each other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within, self._usual = 0, 1

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, PyTorch starts no threads of its own.

        Several threads may be within at a time. A thread that is new to PyTorch then would start with one thread, and
        stay so: each leaves with as many as there were before the first came in.
        """
        import torch

        with self._lock:
            if self._within == 0:
                self._usual = torch.get_num_threads()
            self._within += 1
        torch.set_num_threads(1)
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
            torch.set_num_threads(self._usual)


one_thread_each = _OneThreadEach()
