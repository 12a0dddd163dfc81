"""A lock beside a file: programs that change the same file do so one after another."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 60.0
"""How long a lock is waited for."""

POLL_S = 0.05
"""Time between two tries."""

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What folders answer that know no locks (some network drives): there, programs are not kept apart."""


@contextmanager
def locked(path: str | Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Keep every other program out that locks the same file; `path` itself need not exist, and is not touched.

    The system lifts the lock when a program ends, however it ends. Raises `TimeoutError` after `wait_s` seconds, and
    `OSError` where no file can be written beside `path`. A thread must not lock a file twice.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    beside, end = target.with_name(f".{target.name[:100]}.lock"), time.monotonic() + wait_s
    while (handle := _taken(beside)) is None:
        if time.monotonic() > end:
            raise TimeoutError(f"{target.name} is being changed by another program")
        time.sleep(POLL_S)
    try:
        yield
    finally:
        _release(handle, beside)


def _taken(beside: Path) -> int | None:
    """Handle of the lock file, locked; None while another program holds it."""
    try:
        handle = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError:
        if sys.platform == "win32":
            return None  # the program before is about to remove it
        raise
    try:
        _lock(handle)
        if os.path.samestat(os.fstat(handle), os.stat(beside)):
            return handle
    except FileNotFoundError:
        pass  # the program before removed it while this one waited: take a new one
    except (BlockingIOError, PermissionError):
        pass
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return handle
        os.close(handle)
        raise
    os.close(handle)
    return None


def _lock(handle: int) -> None:
    """Lock an open file. Raises `BlockingIOError` or `PermissionError` while another program holds it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _release(handle: int, beside: Path) -> None:
    """Remove the lock file and lift the lock; Windows removes no open file, so there it is closed first."""
    if sys.platform == "win32":
        os.close(handle)
    try:
        os.unlink(beside)
    except OSError:
        pass  # another program has it open already, and removes it
    if sys.platform != "win32":
        os.close(handle)
