"""`ape-localizer learn`: take landmarks and organs marked on a support scan into a library."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.options import add_model_options, add_scan, engine_of
from APELocalizerLib.core.library.built_in import BUILT_IN

if TYPE_CHECKING:
    from APELocalizerLib.core.library.marks import Marks
    from APELocalizerLib.core.scan.label_map import LabelMap

NO_CT_HELP = "keep no coarse copy of the CT in the library: more private, less exact"


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser(
        "learn",
        help="learn landmarks and organs from a marked scan",
        description="Add one shot (one example) of each landmark and organ marked on SUPPORT to a library; "
        "the library is created if it does not exist. Positions are RAS world millimeters.",
    )
    add_scan(parser, "support")
    marks = parser.add_argument_group("marks on the support (at least one)")
    marks.add_argument(
        "--points", type=Path, metavar="P", help="point list (.mrk.json, .fcsv), or .csv: name,r_mm,a_mm,s_mm"
    )
    marks.add_argument("--segmentation", type=Path, metavar="SEG", help="label map: each label is an organ")
    marks.add_argument("--labels", type=Path, metavar="L", help='names of the labels: .json like {"1": "spleen"}')
    marks.add_argument("--boxes", type=Path, metavar="B", help="ROIs (.mrk.json), or .csv: name,rmin,rmax,amin,…")
    parser.add_argument("--library", type=Path, required=True, metavar="LIB", help="library to add to (.json)")
    parser.add_argument("--no-coarse-ct", action="store_true", help=NO_CT_HELP)
    add_model_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Learn and save the library; nothing is written unless everything could be learned."""
    if not (arguments.points or arguments.segmentation or arguments.boxes):
        arguments.parser.error("give --points, --segmentation with --labels, or --boxes")
    if bool(arguments.segmentation) != bool(arguments.labels):
        arguments.parser.error("--segmentation and --labels belong together")
    if str(arguments.library) == BUILT_IN:
        arguments.parser.error("the built-in library is not changed; give --library a file of your own")

    from APELocalizerLib.core.base.files import check_writable
    from APELocalizerLib.core.library.files import library_lock, load_library, save_library
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.core.scan.label_map import check_place, read_label_map
    from APELocalizerLib.core.scan.read import read_scan

    check_writable(arguments.library)
    # A library that is damaged, or of another model, is named before anything slow is done.
    present = load_library(arguments.library) if arguments.library.exists() else None
    engine = engine_of(arguments)
    engine.check(present)
    label_map = read_label_map(arguments.segmentation) if arguments.segmentation else None
    marks = read_marks(arguments, label_map)
    scan = read_scan(arguments.support)
    for warning in (*scan.warnings, *(label_map.warnings if label_map else ())):
        console.warning(warning)
    if label_map is not None:
        check_place(label_map, scan.bounds(), scan.voxels.shape, scan.ijk_to_ras)
    support_map = engine.map(scan, arguments.spacing, None, console.progress, console.cancelled)
    with library_lock(arguments.library):  # others may have added to it meanwhile
        library = load_library(arguments.library) if arguments.library.exists() else LandmarkLibrary()
        learned = engine.learn(support_map, marks, library, coarse_ct=not arguments.no_coarse_ct)
        save_library(learned.library, arguments.library)
    for note in support_map.notes:
        console.warning(note)
    if learned.left_out:
        console.warning(
            f"{len(learned.left_out)} of the organs named were left out, because the segmentation does not hold them, "
            f"the field of view cuts them, or they reach into the air around the body: {', '.join(learned.left_out)}."
        )
    landmarks, organs = len(learned.library.landmarks), len(learned.library.organs)
    console.remark(f"{arguments.library}: {landmarks} landmarks and {organs} organs.")
    return 0


def read_marks(arguments: argparse.Namespace, label_map: LabelMap | None) -> Marks:
    """Read the mark files, before anything slow is done, so that a mistake in them shows at once."""
    from APELocalizerLib.core.annotations.marks import read_boxes, read_labels, read_points
    from APELocalizerLib.core.library.marks import Marks

    return Marks(
        points=read_points(arguments.points) if arguments.points else None,
        labels=(label_map.labels, label_map.ijk_to_ras) if label_map else None,
        label_names=read_labels(arguments.labels) if arguments.labels else None,
        boxes=read_boxes(arguments.boxes) if arguments.boxes else None,
    )
