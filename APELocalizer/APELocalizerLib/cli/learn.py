"""`ape-localizer learn`: take landmarks and organs marked on a support scan into a library."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.options import add_model_options, add_scan, embedder, load_model
from APELocalizerLib.core.library.built_in import BUILT_IN

if TYPE_CHECKING:
    import numpy as np

    from APELocalizerLib.core.base.geometry import Box
    from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
    from APELocalizerLib.core.library.library import LandmarkLibrary


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
    marks.add_argument("--points", type=Path, metavar="P", help="point list (.mrk.json), or .csv: name,r_mm,a_mm,s_mm")
    marks.add_argument("--segmentation", type=Path, metavar="SEG", help="label map: each label is an organ")
    marks.add_argument("--labels", type=Path, metavar="L", help='names of the labels: .json like {"1": "spleen"}')
    marks.add_argument("--boxes", type=Path, metavar="B", help=".csv: name,rmin,rmax,amin,amax,smin,smax")
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

    from APELocalizerLib.core.library.files import load_library, save_library
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.core.scan.read import read_scan

    library = load_library(arguments.library) if arguments.library.exists() else LandmarkLibrary()
    marks = read_marks(arguments)
    scan = read_scan(arguments.support)
    model = load_model(arguments)
    embed = embedder(arguments, model).embed
    support_map = embed(scan, arguments.spacing, console.progress, console.cancelled)
    if arguments.no_coarse_ct:
        support_map = replace(support_map, coarse_ct=None)
    learned = marks.learned(library, support_map)
    save_library(learned, arguments.library)
    for note in support_map.notes:
        console.remark(note)
    for name in marks.left_out(learned, support_map):
        why = "the field of view of the support cuts it, or it reaches into the air around the body"
        console.remark(f"{name} was left out: {why}.")
    console.remark(f"{arguments.library}: {len(learned.landmarks)} landmarks and {len(learned.organs)} organs.")
    return 0


@dataclass(frozen=True)
class Marks:
    """What was marked on a support, read from its files: positions in RAS mm, label maps with their index→RAS."""

    points: Mapping[str, np.ndarray] | None = None
    labels: tuple[np.ndarray, np.ndarray] | None = None
    label_names: Mapping[int, str] | None = None
    boxes: Mapping[str, Box] | None = None

    def learned(self, library: LandmarkLibrary, support_map: EmbeddingMap) -> LandmarkLibrary:
        """Return the library with one more shot of everything marked."""
        from APELocalizerLib.core.library.learning import learn_box, learn_points, learn_segmentation

        if self.points:
            library = learn_points(library, support_map, self.points)
        if self.labels:
            library = learn_segmentation(library, support_map, *self.labels, self.label_names)
        for name, box in (self.boxes or {}).items():
            library = learn_box(library, support_map, name, box)
        return library

    def left_out(self, library: LandmarkLibrary, support_map: EmbeddingMap) -> list[str]:
        """Names in the segmentation that the library learned no shot of on this support."""
        from APELocalizerLib.core.library.library import support_id_of

        here = support_id_of(support_map)
        known = {organ.name for organ in library.organs if any(shot.support_id == here for shot in organ.shots)}
        return [name for name in (self.label_names or {}).values() if name not in known]


def read_marks(arguments: argparse.Namespace) -> Marks:
    """Read the mark files, before anything slow is done, so that a mistake in them shows at once."""
    from APELocalizerLib.core.annotations.marks import read_boxes, read_labels, read_points
    from APELocalizerLib.core.scan.labels import read_label_volume

    return Marks(
        points=read_points(arguments.points) if arguments.points else None,
        labels=read_label_volume(arguments.segmentation) if arguments.segmentation else None,
        label_names=read_labels(arguments.labels) if arguments.labels else None,
        boxes=read_boxes(arguments.boxes) if arguments.boxes else None,
    )
