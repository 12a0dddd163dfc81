"""`ape-localizer transfer`: what was marked on one scan, carried to another one as a first draft."""

import argparse
from pathlib import Path

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.options import add_model_options, add_scan
from APELocalizerLib.cli.pairs import check_ending, check_new, correspondence_of, read_pair

DESCRIPTION = """\
Carry a label map or points of SUPPORT to TARGET, as a first draft to correct: places are off by 1 to 2 cm. What TARGET
does not show is left out.
"""

SEGMENTATION_HELP = "label map of SUPPORT; --out then ends in .nii.gz, .nrrd or .mha, on the grid of TARGET"
MARKUPS_HELP = "points on SUPPORT (.mrk.json, .fcsv, .csv: name,r_mm,a_mm,s_mm); --out then ends in .mrk.json or .csv"


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser(
        "transfer", help="carry a segmentation or points to another scan", description=DESCRIPTION
    )
    add_scan(parser, "support")
    add_scan(parser, "target")
    marks = parser.add_mutually_exclusive_group(required=True)
    marks.add_argument("--segmentation", type=Path, metavar="SEG", help=SEGMENTATION_HELP)
    marks.add_argument("--markups", type=Path, metavar="POINTS", help=MARKUPS_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write; it must be new")
    add_model_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Carry the marks and write them; nothing is written unless something is in view."""
    check_new([arguments.out])
    if arguments.segmentation is not None:
        return _segmentation(arguments, console)
    return _points(arguments, console)


def _segmentation(arguments: argparse.Namespace, console: Console) -> int:
    from APELocalizerLib.core.localization.carry import LABEL_ENDINGS, carry_label_map, write_label_map
    from APELocalizerLib.core.scan.label_map import check_place, read_label_map

    check_ending(arguments, arguments.out, "--out", LABEL_ENDINGS)
    label_map = read_label_map(arguments.segmentation)
    support, target = read_pair(arguments.support, arguments.target, console)
    check_place(label_map, support.bounds(), support.voxels.shape, support.ijk_to_ras)
    for warning in label_map.warnings:
        console.warning(warning)
    carried = carry_label_map(correspondence_of(arguments, (support, target), console), label_map, target)
    write_label_map(carried, arguments.out)
    return 0


def _points(arguments: argparse.Namespace, console: Console) -> int:
    from APELocalizerLib.core.annotations.marks import read_points
    from APELocalizerLib.core.localization.carry import POINT_ENDINGS, carry_points, write_points

    check_ending(arguments, arguments.out, "--out", POINT_ENDINGS)
    points = read_points(arguments.markups)
    pair = read_pair(arguments.support, arguments.target, console)
    carried = carry_points(correspondence_of(arguments, pair, console), points)
    write_points(list(points), carried, arguments.out)
    missing = [name for name, in_view in zip(points, carried.in_view, strict=True) if not in_view]
    if missing:
        console.warning(f"not in view on {pair[1].name}: {', '.join(missing)}.")
    return 0
