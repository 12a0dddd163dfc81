"""`ape-localizer evaluate`: the retrieval study on folders of annotated scans, with the papers' tables and plots."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.evaluated_methods import (
    add_method_options,
    ape_settings,
    chosen_methods,
    has_second,
    made_by,
    method_names,
)
from APELocalizerLib.cli.options import add_model_options
from APELocalizerLib.core.base.errors import EvaluationError
from APELocalizerLib.core.base.progress import check_cancelled
from APELocalizerLib.evaluation.protocol import add_options, from_arguments
from APELocalizerLib.evaluation.study_file import STUDY_KEYS, read_study_file
from APELocalizerLib.methods.registry import APE, check_names

if TYPE_CHECKING:
    from APELocalizerLib.core.annotations.cases import Case
    from APELocalizerLib.core.model.model import Model
    from APELocalizerLib.evaluation.pairing import StudySettings
    from APELocalizerLib.evaluation.study import Study

HELP = "measure accuracy on annotated scans"


REPORT = "report.md"
"""The report's file in the folder."""


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser("evaluate", help=HELP, description=f"{HELP.capitalize()}.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="annotated scans; see the README")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder for the report")
    _add_data_options(parser.add_argument_group("data"))
    add_model_options(parser)
    group = parser.add_argument_group("what is measured")
    add_method_options(group)
    _add_study_options(group)
    add_options(parser)
    parser.set_defaults(run=run, parser=parser)


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--landmarks", type=Path, metavar="L", help=".csv: case,name,r_mm,a_mm,s_mm[,uncertainty_mm,patient]")
    add(
        "--boxes",
        type=Path,
        metavar="B",
        help=".csv: case,name,rmin,rmax,amin,amax,smin,smax[,uncertainty_mm,cut_sides,patient]",
    )
    add("--study", type=Path, metavar="S", help=f".json with any of: {', '.join(STUDY_KEYS)}")
    add("--targets", nargs="+", metavar="CASE", help="cases to search in (default: all)")
    add("--supports", nargs="+", metavar="CASE", help="cases to learn from (default: all)")
    add("--patients", nargs="*", metavar="PREFIX", help="cases that share a prefix are one patient")
    add("--organs", nargs="+", metavar="NAME", help="only these organs")
    add("--skip", nargs="*", metavar="PATTERN", help="organs to leave out (default: tumors, body, ...)")
    add("--pictures", nargs="*", metavar="CASE", help="cases whose slices are shown (default: the first)")
    add("--title", help="title of the report")
    add("--cache", type=Path, metavar="FOLDER", help="keep embedding maps and registrations here for the next time")


def _add_study_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--shots", type=int, nargs="+", default=[1, 0], metavar="N", help="supports per search; 0: all (default: 1 0)")
    add("--draws", type=int, default=10, metavar="N", help="random groups where N of many are taken")
    add("--pairs", type=int, metavar="N", help="at most N pairs of target and support (default: all)")
    add("--baseline-pairs", type=int, default=20, metavar="N", help="pairs to register (default: 20)")
    add("--no-absent", action="store_true", help="do not search for what was cropped away")
    add("--no-plots", action="store_true", help="tables only; matplotlib is not needed")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Run the study, write report.md, retrievals.csv, figures.json and the plots, and print the report's path."""
    from APELocalizerLib.core.annotations.cases import chosen, with_patients
    from APELocalizerLib.core.annotations.folder import read_data_folder
    from APELocalizerLib.core.base.files import check_writable
    from APELocalizerLib.evaluation.mean_boxes import with_few_shot_boxes
    from APELocalizerLib.evaluation.report import markdown, write_figures
    from APELocalizerLib.evaluation.retrieval_table import write_csv
    from APELocalizerLib.evaluation.study import run_study

    _check(arguments)
    check_writable(arguments.out / REPORT)
    for name, value in (read_study_file(arguments.study) if arguments.study else {}).items():
        if getattr(arguments, name) is None:  # the command line goes before the file
            setattr(arguments, name, value)
    annotated = read_data_folder(arguments.folders, arguments.landmarks, arguments.boxes)
    cases = {case.id: case for case in with_patients(list(annotated.values()), arguments.patients or [])}
    targets, supports = chosen(cases, arguments.targets), chosen(cases, arguments.supports)
    pictured = _pictured(cases, arguments.pictures, targets, supports)
    ape = ape_settings(arguments) if APE in method_names(arguments) else None
    methods = chosen_methods(arguments, ape, console.cancelled)
    protocol, settings = from_arguments(arguments), _study_settings(arguments)
    study = run_study(targets, supports, methods, protocol, settings, console.progress, console.cancelled)
    study = with_few_shot_boxes(study)
    check_cancelled(console.cancelled)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_csv(study.retrievals, arguments.out / "retrievals.csv")
    write_figures(study, arguments.out / "figures.json")
    plots = {} if arguments.no_plots else _draw(study, cases, pictured, arguments.out, ape.model if ape else None)
    path = arguments.out / REPORT
    path.write_text(markdown(study, arguments.title or "Evaluation", [made_by(ape, methods)], plots), encoding="utf-8")
    console.result(str(path))
    return 0


# What is asked for ----------------------------------------------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would only fail after the long part of the work."""
    for name in ("draws", "few_shots", "folds", "baseline_pairs", "pairs"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise EvaluationError(f"--{name.replace('_', '-')} must be at least 1.")
    if arguments.seed < 0:
        raise EvaluationError("--seed must be 0 or more.")
    if min(arguments.shots) < 0:
        raise EvaluationError("--shots must be 0 (all supports at once) or more.")
    names = method_names(arguments)
    check_names(names)
    if has_second(arguments) and APE not in names:
        raise EvaluationError(f"The options --against-… measure the method {APE} twice. Add it to --methods.")
    if not arguments.no_plots:
        _need("matplotlib", "The plots need matplotlib", "give --no-plots")
    if len(names) > 1 or has_second(arguments):
        _need("scipy", "The comparison of methods needs SciPy", "leave out the second method")


def _need(module: str, sentence: str, otherwise: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise EvaluationError(f'{sentence}: pip install ".[evaluate]", or {otherwise}.')


def _study_settings(arguments: argparse.Namespace) -> "StudySettings":
    from APELocalizerLib.evaluation.pairing import StudySettings

    settings = StudySettings(
        shots=tuple(dict.fromkeys(arguments.shots)),
        draws=arguments.draws,
        pairs=arguments.pairs,
        baseline_pairs=arguments.baseline_pairs,
        absent=not arguments.no_absent,
        organs=None if arguments.organs is None else tuple(arguments.organs),
    )
    return settings if arguments.skip is None else replace(settings, skipped=tuple(arguments.skip))


def _pictured(
    cases: Mapping[str, "Case"], names: Sequence[str] | None, targets: Sequence["Case"], supports: Sequence["Case"]
) -> list[str]:
    """Ids of the cases whose slices are shown: those named, or else a target and a support."""
    from APELocalizerLib.core.annotations.cases import chosen

    if names is not None:
        return [case.id for case in chosen(cases, names)]
    other = next((case.id for case in supports if case.person != targets[0].person), None)
    return [targets[0].id, *([other] if other else [])]


# What is written ------------------------------------------------------------------------------------------------------


def _draw(
    study: "Study", cases: Mapping[str, "Case"], pictured: Sequence[str], folder: Path, model: "Model | None"
) -> dict[str, str]:
    """Draw the plots, and the pictures of the product's embedding where it is measured; file names by picture."""
    from APELocalizerLib.core.scan.read import read_scan
    from APELocalizerLib.evaluation.pictures import draw_pictures
    from APELocalizerLib.evaluation.plots import draw_all

    plots = draw_all(study, folder)
    if model is None:
        return plots
    scans = {name: read_scan(cases[name].path) for name in pictured if name in study.cases}
    axes = ("R, mm", "A, mm", "S, mm") if model.anchored else ("channel 1", "channel 2", "channel 3")
    return {**plots, **draw_pictures(study, scans, folder, axes)}
