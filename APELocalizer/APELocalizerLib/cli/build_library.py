"""`ape-localizer build-library`: make a landmark library from many annotated scans, with any model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.cli.console import Console, table
from APELocalizerLib.cli.options import add_model_options, engine_of
from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.library.built_in import built_in_terms_path

if TYPE_CHECKING:
    from APELocalizerLib.app.library_builder import BuiltLibrary

DESCRIPTION = """\
Learn every annotated landmark and every whole organ of the supports into one library: one shot for each support that
shows it. How much an organ's box is enlarged is measured on the supports themselves, one patient left out at a time.
"""


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser(
        "build-library", help="make a library from many annotated scans", description=DESCRIPTION
    )
    parser.add_argument("scans", type=Path, metavar="SCANS", help="folder of scans, <case>.nii.gz (or .nrrd, .mha)")
    parser.add_argument("--landmarks", type=Path, metavar="L", help=".csv: case,name,r_mm,a_mm,s_mm[,patient]")
    parser.add_argument(
        "--boxes", type=Path, metavar="B", help=".csv: case,name,rmin,rmax,amin,amax,smin,smax[,cut_sides,patient]"
    )
    parser.add_argument(
        "--terms",
        type=Path,
        metavar="T",
        help=".csv: name,kind,scheme,value,meaning,description,color (default: the built-in library's)",
    )
    parser.add_argument("--supports", nargs="+", metavar="CASE", help="cases to learn from (default: all annotated)")
    parser.add_argument(
        "--patients", nargs="+", default=[], metavar="PREFIX", help="cases that share a prefix are one patient"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="LIB", help="library to write (.json)")
    add_model_options(parser, align=False)  # what others are aligned with cannot be aligned itself
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Build and save the library, and print what it holds."""
    if not (arguments.landmarks or arguments.boxes):
        arguments.parser.error("give --landmarks and/or --boxes")
    if arguments.out.suffix.lower() != ".json":
        arguments.parser.error("--out must end in .json")

    from APELocalizerLib.app.library_builder import build_library
    from APELocalizerLib.core.annotations.cases import read_cases, with_patients
    from APELocalizerLib.core.base.files import check_writable
    from APELocalizerLib.core.library.files import save_library
    from APELocalizerLib.core.library.terms import read_terms

    check_writable(arguments.out)
    terms = read_terms(_terms_file(arguments.terms))
    supports = with_patients(
        read_cases(arguments.scans, arguments.landmarks, arguments.boxes, arguments.supports), arguments.patients
    )
    engine = engine_of(arguments)
    engine.check()

    built = build_library(
        supports,
        engine,
        terms,
        arguments.spacing,
        progress=console.progress,
        cancelled=console.cancelled,
    )
    save_library(built.library, arguments.out)
    console.result(listing(built))
    for note in built.notes:
        console.result(note)
    size = arguments.out.stat().st_size / 1e6
    console.remark(f"{arguments.out}: {len(built.library.supports)} supports, {size:.1f} MB.")
    return 0


def listing(built: "BuiltLibrary") -> str:
    """Return the table of what the library holds; the last columns say how each organ's enlargement came about."""
    rows = [[landmark.name, "landmark", str(len(landmark.shots)), "", ""] for landmark in built.library.landmarks]
    measured = {enlargement.organ: enlargement for enlargement in built.enlargements}
    for organ in built.library.organs:
        count = f"{measured[organ.name].found} of {measured[organ.name].searched}"
        rows.append([organ.name, "organ", str(len(organ.shots)), f"{organ.alpha:.2f}", count])
    return table(rows, ["name", "kind", "shots", "enlarged by", "found"])


def _terms_file(path: Path | None) -> Path:
    path = path or built_in_terms_path()
    if path is None:
        raise LibraryError("This installation has no table of terms. Give one with --terms.")
    return path
