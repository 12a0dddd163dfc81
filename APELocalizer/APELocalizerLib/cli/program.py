"""`ape-localizer`: reads the command line, runs one subcommand, turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 the command could not do its work (one sentence on standard error says why), 2 wrong usage.
Nothing heavy is imported before a subcommand runs, so that `--help` answers at once.
"""

import argparse
import sys
from collections.abc import Sequence

from APELocalizerLib.cli import build_library, embed, evaluate, info, learn, localize, models, train
from APELocalizerLib.cli.console import Console
from APELocalizerLib.core.base.errors import APELocalizerError

COMMANDS = (learn, localize, embed, models, info, build_library, evaluate, train)
"""The subcommands: each is a file with `add_parser(subparsers)`, and with `run(arguments, console)` -> exit code."""

EXAMPLES = """\
examples:
  ape-localizer learn support.nii.gz --points clicks.csv --library landmarks.json
  ape-localizer localize patient.nii.gz --library landmarks.json --out results --scene
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    arguments = build_parser().parse_args(argv)
    try:
        with console.stoppable():
            return arguments.run(arguments, console)
    except APELocalizerError as error:
        console.error(str(error))
    except KeyboardInterrupt:
        console.error("Stopped at once; files being written may be incomplete.")
    except OSError as error:
        console.error(f"{error.filename or 'A file'} cannot be read or written: {error.strerror or error}.")
    return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every subcommand."""
    parser = argparse.ArgumentParser(
        prog="ape-localizer",
        description="Mark an anatomical landmark once on one CT and find it, with a confidence, on any other CT "
        "of chest, abdomen and pelvis.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
