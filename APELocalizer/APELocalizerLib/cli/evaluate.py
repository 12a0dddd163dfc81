"""`ape-localizer evaluate`: the retrieval study on folders of annotated scans, with the papers' tables and plots."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.core.annotations.cases import Case, EvaluationError, chosen, with_patients
from APELocalizerLib.core.annotations.folder import read_data_folder
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled
from APELocalizerLib.evaluation.protocol import add_options, from_arguments

if TYPE_CHECKING:
    from APELocalizerLib.core.localization.alignment import Reference
    from APELocalizerLib.core.model.model import Model
    from APELocalizerLib.evaluation.study import Study
    from APELocalizerLib.methods.ape import ApeMethod
    from APELocalizerLib.methods.method import Method

REFERENCE_HELP = "library whose landmarks the coordinates of --model are aligned with (default: the built-in one)"
BASELINES = ("body-box", "affine", "bspline")
STUDY_KEYS = ("title", "targets", "supports", "patients", "pictures")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="annotated scans; see the README")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder for the report")
    _add_data_options(parser.add_argument_group("data"))
    _add_method_options(parser.add_argument_group("what is measured"))
    add_options(parser)


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--landmarks", type=Path, metavar="L", help=".csv: case,name,r_mm,a_mm,s_mm[,uncertainty_mm]")
    group.add_argument(
        "--boxes",
        type=Path,
        metavar="B",
        help=".csv: case,name,rmin,rmax,amin,amax,smin,smax[,uncertainty_mm,cut_sides]",
    )
    group.add_argument("--study", type=Path, metavar="S", help=f".json with any of: {', '.join(STUDY_KEYS)}")
    group.add_argument("--targets", nargs="+", metavar="CASE", help="cases to search in (default: all)")
    group.add_argument("--supports", nargs="+", metavar="CASE", help="cases to learn from (default: all)")
    group.add_argument("--patients", nargs="*", metavar="PREFIX", help="cases that share a prefix are one patient")
    group.add_argument("--organs", nargs="+", metavar="NAME", help="only these organs")
    group.add_argument("--skip", nargs="*", metavar="PATTERN", help="organs to leave out (default: tumors, body, ...)")
    group.add_argument(
        "--pictures", nargs="*", metavar="CASE", help="cases whose slices are shown (default: the first)"
    )
    group.add_argument("--title", help="title of the report")
    group.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="keep embedding maps and registrations here for the next time"
    )


def _add_method_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", default="default", metavar="ID|FILE", help="model that is measured")
    group.add_argument("--spacing", default="standard", help="standard (default), fast, ...")
    group.add_argument("--rule", default="paper", help="retrieval rule: paper (default) or robust")
    group.add_argument("--no-refine", action="store_true", help="find by the embedding alone, as in the paper")
    align = group.add_mutually_exclusive_group()
    align.add_argument("--reference", type=Path, metavar="LIB", help=REFERENCE_HELP)
    align.add_argument("--no-align", action="store_true", help="leave coordinates as the network gives them")
    group.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    group.add_argument(
        "--shots", type=int, nargs="+", default=[1, 0], metavar="N", help="supports per search; 0: all (default: 1 0)"
    )
    group.add_argument("--draws", type=int, default=10, metavar="N", help="random groups where N of many are taken")
    group.add_argument("--pairs", type=int, metavar="N", help="at most N pairs of target and support (default: all)")
    group.add_argument("--baselines", nargs="+", default=[], choices=BASELINES, help="also measure these")
    group.add_argument("--baseline-pairs", type=int, default=20, metavar="N", help="pairs to register (default: 20)")
    group.add_argument("--against-model", metavar="ID|FILE", help="also measure this model")
    group.add_argument("--against-spacing", metavar="SPACING", help="also measure this spacing")
    group.add_argument("--against-rule", metavar="RULE", help="also measure this rule")
    group.add_argument("--against-no-refine", action="store_true", help="also measure the embedding alone")
    group.add_argument("--against-no-align", action="store_true", help="also measure coordinates that are not aligned")
    group.add_argument("--no-absent", action="store_true", help="do not search for what was cropped away")
    group.add_argument("--no-plots", action="store_true", help="tables only; matplotlib is not needed")


def run(arguments: argparse.Namespace, progress: Progress | None = None) -> Path:
    """Run the study and write report.md, retrievals.csv, figures.json and the plots; returns the report's path."""
    from APELocalizerLib.core.model.registry import load_model
    from APELocalizerLib.evaluation.few_shot import with_few_shots
    from APELocalizerLib.evaluation.report import markdown, write_figures
    from APELocalizerLib.evaluation.retrievals import write_csv
    from APELocalizerLib.evaluation.study import run_study
    from APELocalizerLib.evaluation.study_plan import StudySettings

    _check(arguments)
    _fill_in(arguments)
    cases = {
        case.id: case
        for case in with_patients(
            list(read_data_folder(arguments.folders, arguments.landmarks, arguments.boxes).values()),
            arguments.patients or [],
        )
    }
    targets, supports = chosen(cases, arguments.targets), chosen(cases, arguments.supports)
    pictured = _pictured(cases, arguments.pictures, targets, supports)
    model = load_model(arguments.model)
    settings = StudySettings(
        shots=tuple(dict.fromkeys(arguments.shots)),
        draws=arguments.draws,
        pairs=arguments.pairs,
        baseline_pairs=arguments.baseline_pairs,
        absent=not arguments.no_absent,
        organs=None if arguments.organs is None else tuple(arguments.organs),
    )
    if arguments.skip is not None:
        settings = replace(settings, skipped=tuple(arguments.skip))
    reference = _reference(arguments, model)
    methods = _methods(arguments, model, reference)
    protocol, cancelled = from_arguments(arguments), _cancelled(arguments)
    study = run_study(targets, supports, methods, protocol, settings, progress, cancelled)
    study = with_few_shots(study)
    check_cancelled(cancelled)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_csv(study.retrievals, arguments.out / "retrievals.csv")
    write_figures(study, arguments.out / "figures.json")
    plots = {} if arguments.no_plots else _draw(study, cases, pictured, arguments.out, model)
    title, path = arguments.title or "Evaluation", arguments.out / "report.md"
    path.write_text(markdown(study, title, _made_by(arguments, model, reference), plots), encoding="utf-8")
    return path


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would only fail after the long part of the work."""
    positive = ("draws", "few_shots", "folds", "baseline_pairs")
    for name in positive:
        if getattr(arguments, name) < 1:
            raise EvaluationError(f"--{name.replace('_', '-')} must be at least 1.")
    if arguments.pairs is not None and arguments.pairs < 1:
        raise EvaluationError("--pairs must be at least 1.")
    if arguments.seed < 0:
        raise EvaluationError("--seed must be 0 or more.")
    if min(arguments.shots) < 0:
        raise EvaluationError("--shots must be 0 (all supports at once) or more.")
    if not arguments.no_plots:
        _need("matplotlib", "The plots need matplotlib", "give --no-plots")
    if arguments.baselines or _has_second(arguments):
        _need("scipy", "The comparison of methods needs SciPy", "leave out the second method")


def _need(module: str, sentence: str, otherwise: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise EvaluationError(f'{sentence}: pip install "apelocalizer[evaluate]", or {otherwise}.')


def _fill_in(arguments: argparse.Namespace) -> None:
    """Take from the study file what the command line does not say."""
    if arguments.study is None:
        return
    try:
        content = json.loads(arguments.study.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"The study {arguments.study} cannot be read as JSON ({error}).") from error
    unknown = sorted(set(content) - set(STUDY_KEYS)) if isinstance(content, dict) else ["no names"]
    if unknown:
        raise EvaluationError(f"{arguments.study.name} may have {', '.join(STUDY_KEYS)}, but it has {unknown[0]}.")
    for key, value in content.items():
        _check_entry(arguments.study, key, value)
        if getattr(arguments, key) is None:
            setattr(arguments, key, value)


def _check_entry(path: Path, key: str, value: object) -> None:
    """Refuse an entry of a study file that is not what its name promises; null stands for nothing said."""
    if value is None:
        return
    if key == "title":
        if not isinstance(value, str):
            raise EvaluationError(f'{path.name}: title must be a text, for example "My study".')
    elif not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise EvaluationError(f'{path.name}: {key} must be a list of texts, for example ["anna", "bert"].')
    elif not value and key in ("targets", "supports"):
        raise EvaluationError(f"{path.name}: {key} names no case. Name one, or leave it out to take all.")


def _methods(arguments: argparse.Namespace, model: "Model", reference: "Reference | None") -> list["Method"]:
    from APELocalizerLib.core.model.registry import load_model
    from APELocalizerLib.methods.registration import Affine, BodyBox, BSpline

    methods: list[Method] = [_ape(model.id, arguments, model, reference)]
    if _has_second(arguments):
        other = load_model(arguments.against_model) if arguments.against_model else model
        changed = argparse.Namespace(**vars(arguments))
        changed.spacing = arguments.against_spacing or arguments.spacing
        changed.rule = arguments.against_rule or arguments.rule
        changed.no_refine = arguments.against_no_refine or arguments.no_refine
        changed.no_align = arguments.against_no_align or arguments.no_align
        changed.reference = arguments.reference if other.id == model.id else None
        differences = [each for each in ("spacing", "rule") if getattr(changed, each) != getattr(arguments, each)]
        parts = [other.id, *[getattr(changed, each) for each in differences]]
        parts += ["not refined"] if changed.no_refine and not arguments.no_refine else []
        second = _reference(changed, other)
        parts += ["not aligned"] if reference is not None and second is None else []
        parts += ["aligned"] if reference is None and second is not None else []
        if ", ".join(parts) == model.id:
            raise EvaluationError("The second method is the first one. Name another model, spacing, rule or alignment.")
        methods.append(_ape(", ".join(parts), changed, other, second))
    affine = Affine(arguments.cache)
    baselines = {"body-box": BodyBox(), "affine": affine, "bspline": BSpline(affine, arguments.cache)}
    return methods + [baselines[name] for name in BASELINES if name in arguments.baselines]


def _has_second(arguments: argparse.Namespace) -> bool:
    """Whether a second model, spacing, rule, refinement or alignment is to be measured."""
    names = ("model", "spacing", "rule", "no_refine", "no_align")
    return any(getattr(arguments, f"against_{name}") for name in names)


def _ape(name: str, arguments: argparse.Namespace, model: "Model", reference: "Reference | None") -> "ApeMethod":
    from APELocalizerLib.core.embedder import Embedder
    from APELocalizerLib.core.embedding.runner import InferenceSettings
    from APELocalizerLib.core.localization.localize import LocalizationSettings
    from APELocalizerLib.methods.ape import ApeMethod
    from APELocalizerLib.methods.map_store import MapStore

    settings = InferenceSettings(device=arguments.device, align=reference is not None)
    embedder = Embedder(model, settings, reference)
    store, spacing = MapStore(arguments.cache), arguments.spacing
    made_with = model.id if reference is None else f"{model.id} aligned with {reference.digest}"
    return ApeMethod(
        name,
        lambda scan: store.get(
            scan, made_with, spacing, lambda each: embedder.embed(each, spacing, cancelled=_cancelled(arguments))
        ),
        LocalizationSettings(arguments.rule, model.round_trip_threshold_mm, not arguments.no_refine),
    )


def _reference(arguments: argparse.Namespace, model: "Model") -> "Reference | None":
    """What coordinates are aligned with, or None if they are not."""
    from APELocalizerLib.core.localization.alignment import Reference, built_in_reference

    if arguments.no_align:
        return None
    if arguments.reference is None:
        return built_in_reference(model.id)
    return Reference.of_file(arguments.reference)


def _cancelled(arguments: argparse.Namespace) -> CancelCheck | None:
    """What tells whether the user asked to stop; None where nobody can."""
    return getattr(arguments, "cancelled", None)


def _pictured(
    cases: Mapping[str, Case], names: Sequence[str] | None, targets: Sequence[Case], supports: Sequence[Case]
) -> list[str]:
    """Ids of the cases whose slices are shown: those named, or else a target and a support."""
    if names is not None:
        return [case.id for case in chosen(cases, names)]
    other = next((case.id for case in supports if case.person != targets[0].person), None)
    return [targets[0].id, *([other] if other else [])]


def _draw(
    study: "Study", cases: Mapping[str, Case], pictured: Sequence[str], folder: Path, model: "Model"
) -> dict[str, str]:
    from APELocalizerLib.core.scan.read import read_scan
    from APELocalizerLib.evaluation.pictures import draw_pictures
    from APELocalizerLib.evaluation.plots import draw_all

    scans = {name: read_scan(cases[name].path) for name in pictured if name in study.subjects}
    axes = ("R, mm", "A, mm", "S, mm") if model.anchored else ("channel 1", "channel 2", "channel 3")
    return {**draw_all(study, folder), **draw_pictures(study, scans, folder, axes)}


def _made_by(arguments: argparse.Namespace, model: "Model", reference: "Reference | None") -> list[str]:
    return [
        f"Model {model.id}, spacing {arguments.spacing}, rule {arguments.rule}, "
        f"{'not refined' if arguments.no_refine else 'refined'} by appearance, "
        f"{_aligned(reference)}, threshold of “not found” "
        f"{model.round_trip_threshold_mm:g} mm. Made by `ape-localizer evaluate`; every retrieval is a row of "
        "`retrievals.csv` beside this file. Positions and errors are in millimeters.",
    ]


def _aligned(reference: "Reference | None") -> str:
    """How coordinates were aligned, in words."""
    if reference is None:
        return "coordinates not aligned"
    supports = ", ".join(support.name for support in reference.library.supports)
    return f"coordinates aligned with {reference.landmarks} landmarks of {supports}"
