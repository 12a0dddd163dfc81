"""`ape-localizer evaluate`: the retrieval study on a folder of annotated scans."""

import argparse
from pathlib import Path

from APELocalizerLib.core.progress import Progress
from APELocalizerLib.evaluation.cases import EvaluationError, read_cases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("scans", type=Path, help="folder of scans, <case>.nii.gz")
    parser.add_argument("--landmarks", type=Path, help="CSV: case,name,r_mm,a_mm,s_mm[,uncertainty_mm]")
    parser.add_argument("--boxes", type=Path, help="CSV: case,name,rmin,...,smax[,uncertainty_mm,cut_sides]")
    parser.add_argument("--targets", nargs="+", metavar="CASE", help="cases to search in (default: all)")
    parser.add_argument("--supports", nargs="+", metavar="CASE", help="cases to learn from (default: all)")
    parser.add_argument(
        "--patients", nargs="*", default=[], metavar="PREFIX", help="cases that share a prefix are one patient"
    )
    parser.add_argument("--shots", type=int, default=1, help="supports per search; 0 means all at once")
    parser.add_argument("--rule", default="paper", help="retrieval rule: paper (default) or robust")
    parser.add_argument("--model", default="default", help="id or file of the model")
    parser.add_argument("--spacing", default="standard")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.md and retrievals.csv")


def run(arguments: argparse.Namespace, progress: Progress | None = None) -> Path:
    """Run the study and write the report; returns the report's path."""
    from APELocalizerLib.core.inference import InferenceSettings
    from APELocalizerLib.core.localization import LocalizationSettings
    from APELocalizerLib.core.pipeline import Embedder
    from APELocalizerLib.core.registry import load_checkpoint
    from APELocalizerLib.evaluation.report import markdown, write_csv
    from APELocalizerLib.evaluation.study import run_study

    if not (arguments.landmarks or arguments.boxes):
        raise EvaluationError("Give the annotations: --landmarks and/or --boxes.")
    checkpoint = load_checkpoint(arguments.model)
    embedder = Embedder(checkpoint, InferenceSettings(device=arguments.device))
    cases = {c.id: c for c in read_cases(arguments.scans, arguments.landmarks, arguments.boxes)}
    targets = _chosen(cases, arguments.targets)
    supports = _chosen(cases, arguments.supports)

    def patient(name: str) -> str:
        return next((prefix for prefix in arguments.patients if name.startswith(prefix)), name)

    results = run_study(
        targets,
        supports,
        lambda scan: embedder.embed(scan, arguments.spacing),
        arguments.shots,
        LocalizationSettings(arguments.rule, checkpoint.round_trip_threshold_mm),
        same_patient=lambda a, b: patient(a) == patient(b),
        progress=progress,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_csv(results, arguments.out / "retrievals.csv")
    lines = [
        f"Model {checkpoint.id}, spacing {arguments.spacing}, rule {arguments.rule}, "
        f"{arguments.shots or 'all'} support(s) per search.",
        "",
        f"Targets: {', '.join(case.id for case in targets)}. Supports: {', '.join(case.id for case in supports)} "
        "(never the target's own patient).",
    ]
    path = arguments.out / "report.md"
    path.write_text(markdown(results, "Retrieval study", lines), encoding="utf-8")
    return path


def _chosen(cases: dict, names: list[str] | None) -> list:
    missing = [name for name in names or [] if name not in cases]
    if missing:
        raise EvaluationError(f"There is no annotated scan for: {', '.join(missing)}.")
    return [cases[name] for name in names or cases]
