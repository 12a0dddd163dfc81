"""`ape-localizer`: reads the command line, runs one subcommand, turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 the command could not do its work (one sentence on standard error says why), 2 wrong usage, 130
stopped with Ctrl+C.
Nothing heavy is imported before a subcommand runs, so that `--help` answers at once.
"""

import argparse
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from APELocalizerLib.cli import (
    build_library,
    embed,
    evaluate,
    info,
    learn,
    localize,
    models,
    register,
    train,
    transfer,
)
from APELocalizerLib.cli.console import Console
from APELocalizerLib.core.base.errors import Cancelled, in_a_sentence
from APELocalizerLib.core.base.version import VERSION

DONE, FAILED, STOPPED = 0, 1, 130
"""Exit codes; wrong usage is 2."""

LIBRARY = "APELocalizerLib"
"""Logger of all that is told."""

LEVELS = ("debug", "info", "warning", "error")
QUIET_HELP = "no progress and no remarks; warnings and errors are still printed"
LEVEL_HELP = "what is logged on standard error (default: warning); debug also shows where an error comes from"

logger = logging.getLogger(__name__)

COMMANDS = (learn, localize, register, transfer, embed, models, info, build_library, evaluate, train)
"""The subcommands: each is a file with `add_parser(subparsers)`, and with `run(arguments, console)` -> exit code."""

EXAMPLES = """\
examples:
  ape-localizer learn support.nii.gz --points clicks.csv --library landmarks.json
  ape-localizer localize patient.nii.gz --library landmarks.json --out results --scene
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        accept_all_letters(stream)
    try:
        arguments = build_parser().parse_args(argv)
        console = Console(quiet=arguments.quiet)
        code = run_command(arguments, console)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, sys.stdout.fileno())
        return DONE
    return code


def run_command(arguments: argparse.Namespace, console: Console) -> int:
    """Run one subcommand; every error becomes one sentence."""
    with logged(arguments.log_level, console):
        try:
            with console.stoppable():
                return arguments.run(arguments, console)
        except BrokenPipeError:
            raise
        except Cancelled as cancelled:
            console.error(str(cancelled))
            return STOPPED
        except KeyboardInterrupt:
            console.error("Stopped at once; files being written may be incomplete.")
            return STOPPED
        except Exception as error:
            logger.debug("The command failed.", exc_info=True)
            console.error(str(in_a_sentence(error)))
            return FAILED


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every subcommand."""
    parser = argparse.ArgumentParser(
        prog="ape-localizer",
        description="Mark an anatomical landmark once on one CT and find it, with a confidence, on any other CT "
        "of chest, abdomen and pelvis.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"APELocalizer {VERSION}")
    parser.set_defaults(quiet=False, log_level="warning")
    add_output_options(parser)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    for subparser in subparsers.choices.values():
        add_output_options(subparser)
    return parser


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how much is said; accepted before and behind the name of the subcommand."""
    group = parser.add_argument_group("output")
    group.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help=QUIET_HELP)
    group.add_argument("--log-level", choices=LEVELS, default=argparse.SUPPRESS, help=LEVEL_HELP)


def accept_all_letters(stream: TextIO) -> None:
    """Let a stream that knows few letters (ASCII, cp1252) write others as escapes instead of failing."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


@contextmanager
def logged(level: str, console: Console) -> Iterator[None]:
    """While inside, what the library logs at this level or above is printed on standard error."""
    library = logging.getLogger(LIBRARY)
    handler, before = ConsoleHandler(console), library.level
    library.addHandler(handler)
    library.setLevel(level.upper())
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(before)


class ConsoleHandler(logging.Handler):
    """Prints warnings as warnings, and what is logged below as it is."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        if record.levelno >= logging.WARNING:
            self._console.warning(self.format(record))
        else:
            self._console.error(self.format(record))
