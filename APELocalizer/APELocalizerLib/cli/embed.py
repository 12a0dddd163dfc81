"""`ape-localizer embed`: compute and save the anatomical map of a scan."""

import argparse
from pathlib import Path

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.options import add_model_options, add_scan, engine_of


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser(
        "embed",
        help="compute the anatomical map of a scan",
        description="Write the three anatomical coordinates of every place in SCAN as a .nrrd file.",
    )
    add_scan(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="MAP", help="file to write (.nrrd)")
    add_model_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Embed the scan and save the map."""
    if arguments.out.suffix.lower() != ".nrrd":
        arguments.parser.error("--out must end in .nrrd")

    from APELocalizerLib.core.base.files import check_writable
    from APELocalizerLib.core.embedding.map_files import save_map
    from APELocalizerLib.core.scan.read import read_scan

    check_writable(arguments.out)
    scan = read_scan(arguments.scan)
    for warning in scan.warnings:
        console.warning(warning)
    engine = engine_of(arguments)
    engine.check()
    embedding_map = engine.map(scan, arguments.spacing, None, console.progress, console.cancelled)
    save_map(embedding_map, arguments.out)
    for note in embedding_map.notes:
        console.warning(note)
    return 0
