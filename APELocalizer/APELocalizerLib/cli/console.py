"""What the user sees: a progress bar and remarks on a terminal, nothing but results and errors in a pipe."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

BAR_WIDTH = 30
TEXT_WIDTH = 44


class Console:
    """Progress, remarks and errors go to `errors` (standard error), results to `output` (standard output)."""

    def __init__(self, output: TextIO | None = None, errors: TextIO | None = None, quiet: bool = False) -> None:
        """With `quiet`, neither progress nor remarks are shown; warnings and errors always are."""
        self.output = output or sys.stdout
        self.errors = errors or sys.stderr
        self._quiet = quiet
        self._interrupted = False
        self._bar_shown = False
        self._full, self._empty = ("█", "░") if _takes("█░", self.errors) else ("#", ".")

    @property
    def interactive(self) -> bool:
        """Whether a person is watching."""
        return self.errors.isatty()

    def result(self, text: str = "") -> None:
        """Print what the command was asked for."""
        self._clear_bar()
        print(text, file=self.output)

    def remark(self, text: str) -> None:
        """Tell a person watching what happened; silent in a pipe."""
        if self.interactive and not self._quiet:
            self._clear_bar()
            print(text, file=self.errors)

    def warning(self, text: str) -> None:
        """Print what a user must know about the results on standard error, also in a pipe."""
        self._clear_bar()
        print(f"ape-localizer: warning: {text}", file=self.errors)

    def error(self, text: str) -> None:
        """Print one sentence on standard error, also in a pipe."""
        self._clear_bar()
        print(f"ape-localizer: {text}", file=self.errors)

    def progress(self, fraction: float, text: str) -> None:
        """Draw the progress bar; the `progress` callable of every long function of the core."""
        if self._quiet or not self.interactive:
            return
        filled = round(BAR_WIDTH * min(max(fraction, 0.0), 1.0))
        bar = self._full * filled + self._empty * (BAR_WIDTH - filled)
        print(f"\r{bar} {100 * fraction:3.0f} % {text[:TEXT_WIDTH]:{TEXT_WIDTH}}", end="", file=self.errors, flush=True)
        self._bar_shown = True

    def cancelled(self) -> bool:
        """Whether the user pressed Ctrl+C; the `cancelled` callable of every long function of the core."""
        return self._interrupted

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """While inside, the first Ctrl+C asks the work to stop cleanly, and the second stops at once."""

        def interrupt(_signal: int, _frame: object) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True

        previous = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
            self._clear_bar()

    def _clear_bar(self) -> None:
        if self._bar_shown:
            print("\r\033[K", end="", file=self.errors, flush=True)
            self._bar_shown = False


def _takes(text: str, stream: TextIO) -> bool:
    """Whether a stream can write these letters."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def table(rows: list[list[str]], header: list[str]) -> str:
    """Lay rows out in columns; columns whose cells are all numbers (or empty) are set flush right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    numeric = [all(_is_number(row[column]) for row in rows) for column in range(len(header))]

    def laid_out(line: list[str]) -> str:
        cells = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([laid_out(header), "  ".join("-" * width for width in widths), *map(laid_out, rows)])


def _is_number(cell: str) -> bool:
    return not cell.strip("-–— ") or cell.replace(".", "", 1).lstrip("-").isdigit()
