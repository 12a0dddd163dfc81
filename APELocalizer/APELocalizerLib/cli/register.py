"""`ape-localizer register`: a transform between two scans, as a start for a registration."""

import argparse
from pathlib import Path

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.options import add_model_options, add_scan
from APELocalizerLib.cli.pairs import check_ending, check_new, correspondence_of, read_pair

DESCRIPTION = """\
Write the transform that takes places of FIXED to MOVING, by which MOVING is resampled onto FIXED: an ITK file (.h5,
.tfm) that SimpleITK, elastix, ANTs and Slicer read, or the displacements as an image (.nii.gz, .nrrd, .mha). Neither
scan is changed. Meant as a start: places are off by 1 to 2 cm.
"""

KINDS = ("rigid", "affine", "thin-plate", "field")
"""As `core.localization.transforms.KINDS`, which is loaded later."""

BENT = KINDS[2:]
"""Kinds that are displacement fields."""

POINTS_HELP = "also write pairs of points: .txt for elastix, .csv for ANTs; FILE_fixed and FILE_moving"


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser(
        "register", help="a transform between two scans, to start a registration", description=DESCRIPTION
    )
    add_scan(parser, "moving")
    add_scan(parser, "fixed")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write; it must be new")
    parser.add_argument("--kind", choices=KINDS, default="affine", help="default: affine")
    parser.add_argument("--points", type=Path, metavar="FILE", help=POINTS_HELP)
    add_model_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Relate the scans and write the transform; nothing is written unless everything could be made."""
    from APELocalizerLib.core.localization.transforms import (
        IMAGE_ENDINGS,
        POINT_ENDINGS,
        TRANSFORM_ENDINGS,
        itk_transform,
        paired_points,
        point_list_files,
        write_point_lists,
        write_transform,
    )

    endings = TRANSFORM_ENDINGS + (IMAGE_ENDINGS if arguments.kind in BENT else ())
    check_ending(arguments, arguments.out, f"--out of the kind {arguments.kind}", endings)
    files = [arguments.out]
    if arguments.points is not None:
        check_ending(arguments, arguments.points, "--points", POINT_ENDINGS)
        files += point_list_files(arguments.points)
    check_new(files)
    moving, fixed = read_pair(arguments.moving, arguments.fixed, console)
    correspondence = correspondence_of(arguments, (fixed, moving), console)
    transform = itk_transform(correspondence, arguments.kind, fixed.bounds())
    places, _ = paired_points(correspondence, len(correspondence.control_points))
    write_transform(transform, arguments.out)
    if arguments.points is not None:
        write_point_lists(correspondence, arguments.points)
    expected = sorted(correspondence.to_second(places).expected_error_mm)[len(places) // 2]
    console.remark(f"{arguments.out}: half of the places are expected within {expected:.0f} mm.")
    return 0
