"""`ape-localizer`: reads the command line, runs one subcommand, turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 the command could not do its work (one sentence on standard error says why), 2 wrong usage.
Nothing heavy is imported before a subcommand runs, so that `--help` answers at once.
"""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence

from APELocalizerLib.cli import build_library, embed, evaluate, info, learn, localize, models
from APELocalizerLib.cli.console import Console
from APELocalizerLib.core.base.errors import APELocalizerError

COMMANDS = (learn, localize, embed, models, info, build_library, evaluate)

HANDED_ON = {
    "train": ("APELocalizerLib.cli.train", "fit a network to your own scans"),
}
"""Subcommands of other rooms, offered where they are installed and imported only when asked for: each module has
`add_arguments(parser)` and `run(arguments, progress)`, which returns the file or folder it made, other text to print,
or None; `arguments.cancelled` tells whether the user asked to stop."""

EXAMPLES = """\
examples:
  ape-localizer learn support.nii.gz --points clicks.csv --library landmarks.json
  ape-localizer localize patient.nii.gz --library landmarks.json --out results --scene
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    if argv and argv[0] in available_extras():
        return _handed_on(argv[0], argv[1:], console)
    arguments = build_parser().parse_args(argv)
    return _guarded(console, lambda: arguments.run(arguments, console))


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
    for name in available_extras():
        subparsers.add_parser(name, help=HANDED_ON[name][1])
    return parser


def available_extras() -> tuple[str, ...]:
    """Names of the handed-on subcommands whose module is installed."""
    return tuple(name for name, (module, _) in HANDED_ON.items() if importlib.util.find_spec(module) is not None)


def _handed_on(name: str, argv: list[str], console: Console) -> int:
    module_name, description = HANDED_ON[name]
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"ape-localizer {name}", description=f"{description.capitalize()}.")
    module.add_arguments(parser)
    arguments = parser.parse_args(argv)

    arguments.cancelled = console.cancelled

    def work() -> int:
        made = module.run(arguments, console.progress)
        if made is not None:
            console.result(str(made))
        return 0

    return _guarded(console, work)


def _guarded(console: Console, work: Callable[[], int]) -> int:
    try:
        with console.stoppable():
            return work()
    except APELocalizerError as error:
        console.error(str(error))
    except KeyboardInterrupt:
        console.error("Stopped at once; files being written may be incomplete.")
    except OSError as error:
        console.error(f"{error.filename or 'A file'} cannot be read or written: {error.strerror or error}.")
    return 1
