"""Options that several subcommands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from APELocalizerLib.app.engine import Engine

NO_ALIGN_HELP = "leave coordinates as the network gives them"
REFERENCE_HELP = (
    "library whose landmarks coordinates are aligned with (default: the built-in one, if it is the model's)"
)
NO_REFINE_HELP = "as in the paper: do not compare what the scans look like"
RULES = ("paper", "robust")
SCAN_HELP = "CT scan: NIfTI, NRRD or MetaImage file, or folder of one DICOM series"


def add_scan(parser: argparse.ArgumentParser, name: str = "scan", **keywords) -> None:
    """Add the positional scan argument."""
    parser.add_argument(name, type=Path, metavar=name.upper(), help=SCAN_HELP, **keywords)


def add_model_options(parser: argparse.ArgumentParser, align: bool = True) -> None:
    """Add what decides how a scan is embedded; without `align`, its coordinates are not aligned."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", default="default", metavar="ID|FILE", help="one of `ape-localizer models`, or a file")
    group.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    group.add_argument("--spacing", default="standard", help="standard (default) or fast; some models also have fine")
    group.add_argument("--one-pass", action="store_true", help="the whole scan at once: faster, needs memory")
    if align:
        choice = group.add_mutually_exclusive_group()
        choice.add_argument("--reference", type=Path, metavar="LIB", help=REFERENCE_HELP)
        choice.add_argument("--no-align", action="store_true", help=NO_ALIGN_HELP)
    else:
        parser.set_defaults(reference=None, no_align=True)


def add_search_options(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Add what decides how landmarks are looked for on a scan."""
    parser.add_argument("--rule", choices=RULES, default="paper", help="how shots are combined (default: paper)")
    parser.add_argument("--no-refine", action="store_true", help=NO_REFINE_HELP)


def engine_of(arguments: argparse.Namespace) -> "Engine":
    """Return the engine that the options name; nothing is loaded yet."""
    from APELocalizerLib.app.engine import BUILT_IN, Engine
    from APELocalizerLib.core.library.built_in import library_file

    reference: str | Path | None = None
    if not arguments.no_align:
        reference = BUILT_IN if arguments.reference is None else library_file(arguments.reference)
    return Engine(arguments.model, arguments.device, reference, True if arguments.one_pass else None)
