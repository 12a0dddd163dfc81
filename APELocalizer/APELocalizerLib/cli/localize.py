"""`ape-localizer localize`: find a library's landmarks and organs on one scan or on many."""

import argparse
from pathlib import Path

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.options import add_model_options, add_scan, add_search_options, engine_of
from APELocalizerLib.cli.scene_output import check_scene_possible, scene_writer
from APELocalizerLib.core.base.errors import Cancelled

DESCRIPTION = """\
Find every landmark and organ of the library on SCAN and write landmarks.mrk.json, boxes.csv, rois/*.mrk.json,
results.csv and map.nrrd to the folder DIR; with --scene also scene.mrb (for 3D Slicer) and views.png. With several
scans each gets a folder of its own inside DIR, and a scan that fails does not stop the others (exit code 1).
"""

LIBRARY_HELP = "library made by `learn` (.json), or built-in: the one that comes with APELocalizer"


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser("localize", help="find a library's landmarks on scans", description=DESCRIPTION)
    add_scan(parser, nargs="+")
    parser.add_argument("--library", type=Path, required=True, metavar="LIB", help=LIBRARY_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--scene", action="store_true", help="also write scene.mrb and views.png (needs slicer-core)")
    add_search_options(parser)
    parser.add_argument("--threshold", type=float, metavar="MM", help="largest round trip of a found landmark")
    add_model_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Localize on each scan; the network is loaded once."""
    if arguments.threshold is not None and not arguments.threshold > 0:
        arguments.parser.error("--threshold must be a positive number of millimeters")

    from APELocalizerLib.app.runs import LocalizationRun, summary
    from APELocalizerLib.core.localization.localize import LocalizationSettings

    if arguments.scene:
        check_scene_possible()
    engine = engine_of(arguments)
    library = engine.library(arguments.library)
    settings = LocalizationSettings(arguments.rule, arguments.threshold, refine=not arguments.no_refine)
    write_more = scene_writer(library) if arguments.scene else None
    run_of = LocalizationRun(engine, library, settings, arguments.spacing, write_more, console.warning)
    outcomes = run_of.on_scans(arguments.scan, arguments.out, console.progress, console.cancelled)
    done, failed = 0, 0
    try:
        for outcome in outcomes:
            if outcome.localization is None:
                failed += 1
                console.error(f"{outcome.path}: {outcome.error}" if len(arguments.scan) > 1 else str(outcome.error))
            else:
                done += 1
                console.remark(f"{outcome.folder}: {summary(outcome.localization)}")
    except Cancelled as cancelled:
        if len(arguments.scan) == 1:
            raise
        raise Cancelled(
            f"Cancelled. {done} of {len(arguments.scan)} scans are finished, with results in {arguments.out}; nothing "
            "was written for the others."
        ) from cancelled
    return 1 if failed else 0
