"""`ape-localizer localize`: find a library's landmarks and organs on one scan or on many."""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.options import add_model_options, add_scan, embedder, load_model
from APELocalizerLib.cli.scene_output import check_scene_possible, write_scene
from APELocalizerLib.core.base.errors import APELocalizerError, Cancelled
from APELocalizerLib.core.base.progress import Progress, report, sub_progress

if TYPE_CHECKING:
    from APELocalizerLib.core.localization.answers import Localization

DESCRIPTION = """\
Find every landmark and organ of the library on SCAN and write landmarks.mrk.json, boxes.csv, rois/*.mrk.json,
results.csv and map.nrrd to the folder DIR; with --scene also scene.mrb (for 3D Slicer) and views.png. With several
scans each gets a folder of its own inside DIR, and a scan that fails does not stop the others (exit code 1).
"""

LIBRARY_HELP = "library made by `learn` (.json), or built-in: the one that comes with APELocalizer"

OUTPUTS = ("landmarks.mrk.json", "boxes.csv", "rois", "results.csv", "map.nrrd", "scene.mrb", "views.png")
"""What earlier runs may have left in a result folder; replaced as a whole, so that nothing old stays beside new."""


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser("localize", help="find a library's landmarks on scans", description=DESCRIPTION)
    add_scan(parser, nargs="+")
    parser.add_argument("--library", type=Path, required=True, metavar="LIB", help=LIBRARY_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--scene", action="store_true", help="also write scene.mrb and views.png (needs slicer-core)")
    parser.add_argument("--rule", choices=("paper", "robust"), default="paper", help="how shots are combined")
    parser.add_argument("--no-refine", action="store_true", help="as in the paper: do not compare what scans look like")
    parser.add_argument("--threshold", type=float, metavar="MM", help="largest round trip of a found landmark")
    add_model_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Localize on each scan; the network is built once."""
    if arguments.threshold is not None and not arguments.threshold > 0:
        arguments.parser.error("--threshold must be a positive number of millimeters")

    from APELocalizerLib.core.library.built_in import library_file
    from APELocalizerLib.core.library.files import load_library

    if arguments.scene:
        check_scene_possible()
    library = load_library(library_file(arguments.library))
    localizer = Localizer(library, load_model(arguments), arguments, console)
    folders = result_folders(arguments.scan, arguments.out)
    failed = 0
    for number, (path, folder) in enumerate(zip(arguments.scan, folders, strict=True)):
        try:
            part = sub_progress(console.progress, number / len(folders), (number + 1) / len(folders))
            localizer.localize(path, folder, part)
        except Cancelled:
            raise
        except APELocalizerError as error:
            failed += 1
            console.error(f"{path}: {error}" if len(folders) > 1 else str(error))
    return 1 if failed else 0


class Localizer:
    """Library, model and settings, ready for one scan after another."""

    def __init__(self, library, model, arguments: argparse.Namespace, console: Console) -> None:
        from APELocalizerLib.core.localization.localize import LocalizationSettings

        self.library = library
        self.model = model
        self.spacing = arguments.spacing
        self.scene = arguments.scene
        self.console = console
        self.embedder = embedder(arguments, model)
        self.settings = LocalizationSettings(arguments.rule, arguments.threshold, refine=not arguments.no_refine)

    def localize(self, path: Path, folder: Path, progress: Progress | None = None) -> "Localization":
        """Localize on one scan and write its folder; on an error the folder is as it was before."""
        from APELocalizerLib.core.embedding.map_files import save_map
        from APELocalizerLib.core.localization.localize import localize
        from APELocalizerLib.core.localization.write import write_results
        from APELocalizerLib.core.scan.read import read_scan

        scan = read_scan(path)
        cancelled = self.console.cancelled
        embedding_map = self.embedder.embed(scan, self.spacing, sub_progress(progress, 0.0, 0.8), cancelled)
        found = localize(
            embedding_map, self.library, self.settings, self.model, sub_progress(progress, 0.8, 0.9), cancelled
        )
        with staged(folder) as staging:
            write_results(found, staging)
            save_map(embedding_map, staging / "map.nrrd")
            if self.scene:
                report(progress, 0.9, "Drawing and writing the scene")
                write_scene(scan, found, embedding_map, self.library, staging)
        self.console.remark(f"{folder}: {summary(found)}")
        for note in found.notes:
            self.console.remark(note)
        return found


def summary(found: "Localization") -> str:
    """Say how much was found, in one line."""
    points = sum(point.found for point in found.points)
    organs = sum(organ.found for organ in found.organs)
    return f"{points} of {len(found.points)} landmarks and {organs} of {len(found.organs)} organs found."


def result_folders(scans: Sequence[Path], out: Path) -> list[Path]:
    """Return the folder of each scan's results: `out` for one scan, else one in `out` per scan, named after it."""
    if len(scans) == 1:
        return [out]
    from APELocalizerLib.core.scan.read import stem_of

    names: list[str] = []
    for scan in scans:
        name = base = stem_of(scan.resolve())
        repeated = 1
        while name in names:
            repeated += 1
            name = f"{base}-{repeated}"
        names.append(name)
    return [out / name for name in names]


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a temporary folder whose content moves into `folder` at the end, and vanishes on an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield staging
        folder.mkdir(exist_ok=True)
        for stale in OUTPUTS:
            _remove(folder / stale)
        for item in sorted(staging.iterdir()):
            item.replace(folder / item.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
