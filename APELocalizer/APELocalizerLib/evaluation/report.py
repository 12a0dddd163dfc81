"""Report of a study: Markdown with the papers' tables, the figures as JSON, and the plots' places in the text."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from APELocalizerLib.evaluation import report_tables as tables
from APELocalizerLib.evaluation.confidence_tables import not_found_table, reliability_table
from APELocalizerLib.evaluation.markdown_tables import table
from APELocalizerLib.evaluation.measures import (
    AXES,
    DEFINITIONS,
    Value,
    error,
    error_along,
    iou,
    main_rows,
    measures,
    partial_axes,
    shots_text,
    side_error,
    summarized,
    used_shots,
)
from APELocalizerLib.evaluation.protocol import rows_of
from APELocalizerLib.evaluation.retrieval_table import EXTREME_POINT
from APELocalizerLib.evaluation.study import Study

PAPER = (
    "The APE paper reports, for its own model, data (50 CTs of FLARE22, 13 organs with masks, 8400 training scans) and "
    "protocol, 22 ± 19 mm for organ centers, 34 ± 35 mm for extreme points, a box IoU of 0.51 with five supports, a "
    "VR@99 of 52, and 0.07 s per retrieval. Other patients, organs and fields of view make these **not comparable** "
    "with the figures here; they show the order of magnitude."
)
"""What the paper reports, and why it cannot be compared."""

TIMES = (
    "",
    "Lookup is the bare search for the nearest embedding (or the transform of a position), which the papers time; "
    "localize is all that a user gets: the place, refined, with its confidence.",
)
"""What the columns of the table of times mean."""


def markdown(study: Study, title: str, lines: Sequence[str] = (), plots: Mapping[str, str] | None = None) -> str:
    """The report; `lines` say how it was made, `plots` maps a plot's name to its file."""
    plots = plots or {}
    parts = [f"# {title}", "", *lines, "", *_data(study), "", "## Overview", "", *tables.overview(study), "", PAPER]
    parts += _plot(plots, "error_cdf", "Share of retrievals with at most a given error")
    parts += ["", "## By target: mean ± standard deviation (median), one support", "", *tables.by_target(study)]
    parts += _points(study, plots)
    parts += _boxes(study, plots)
    parts += _confidence(study, plots)
    parts += _methods(study, plots)
    if "embeddings" in plots or "maps" in plots:
        parts += ["", "## What the embedding looks like"]
        parts += _plot(plots, "embeddings", "Anatomical coordinates of landmarks and organs of all patients")
        parts += _plot(plots, "maps", "Anatomical coordinates as colors, beside the CT")
    parts += ["", "## Choices", "", "What the papers leave open, and how it was done here:", ""]
    parts += table(["option", "value", "meaning"], [[f"`{o}`", v, t] for o, v, t in rows_of(study.protocol)])
    if study.notes:
        parts += ["", "## Left out", "", *[f"- {note}" for note in study.notes]]
    return "\n".join(parts) + "\n"


def _plot(plots: Mapping[str, str], name: str, text: str) -> list[str]:
    return ["", f"![{text}]({plots[name]})"] if name in plots else []


def _data(study: Study) -> list[str]:
    def counts(ids: Sequence[str]) -> str:
        cases = [study.cases[case_id] for case_id in ids]
        landmarks = sum(place.kind == "landmark" for case in cases for place in case.places)
        whole = sum(len({place.name for place in case.places if place.kind == "organ"}) for case in cases)
        patients = len({case.patient for case in cases})
        return f"{len(ids)} scans of {patients} patients, {landmarks} landmarks, {whole} whole organs"

    return [
        f"Targets ({counts(study.targets)}): {', '.join(study.targets)}.",
        "",
        f"Supports ({counts(study.supports)}): {', '.join(study.supports)}. "
        "A scan is never searched with scans of the same patient.",
    ]


def _points(study: Study, plots: Mapping[str, str]) -> list[str]:
    lines = []
    if main_rows(study, "landmark"):
        lines += _distances(study, "Landmarks: distance from the annotation", "landmark")
        lines += tables.uncertainty_text(study)
    for (kind, definition), text in DEFINITIONS.items():
        if main_rows(study, kind, definition=definition):
            of_paper = " (APE, Table 2)" if definition == "mask" or kind == "center" else ""
            lines += _distances(study, f"{text[0].upper()}{text[1:]}: distance", kind, definition, of_paper)
            lines += tables.across_side_text(study, definition) if kind == EXTREME_POINT else []
    return lines + _plot(plots, "structures", "Error by landmark and organ")


def _distances(study: Study, title: str, kind: str, definition: str | None = None, of_paper: str = "") -> list[str]:
    """Table of distances by name; and one for each axis along which a method answers that knows no other."""
    lines = ["", f"## {title}, mm{of_paper}", "", *tables.by_name(study, kind, error, definition=definition)]
    for axis in partial_axes(study, kind, definition):
        lines += ["", f"### {title}, {AXES[axis]} only, mm", ""]
        lines += tables.by_name(study, kind, error_along(axis), definition=definition)
    return lines


def _boxes(study: Study, plots: Mapping[str, str]) -> list[str]:
    if not main_rows(study, "box"):
        return []
    protocol = study.protocol
    lines = ["", f"## Boxes: overlap (IoU), mean of the boxes of {protocol.few_shots} supports (APE, Table 3)", ""]
    lines += [
        f"{protocol.folds} random draws of supports (seed {protocol.seed}); where fewer supports show an organ whole, "
        "all of them are taken. Boxes are not enlarged.",
        "",
    ]
    lines += tables.by_name(study, "few-shot box", iou, 2)
    lines += _plot(plots, "boxes", "Overlap of the boxes by organ")
    lines += ["", "## Boxes: enlargement for a recall of 99 % (APE, Table 4)", "", *tables.enlargement_table(study)]
    lines += ["", "## Boxes: overlap (IoU)", "", *tables.by_name(study, "box", iou, 2)]
    lines += ["", "## Boxes: distance of the found box's center, mm", "", *tables.by_name(study, "box", error)]
    lines += ["", "## Boxes: mean distance of the sides, mm (RPR-Loc's average wall distance, AWD)", ""]
    return lines + tables.by_name(study, "box", side_error)


def _confidence(study: Study, plots: Mapping[str, str]) -> list[str]:
    lines, not_found = [], not_found_table(study)
    if not_found:
        lines += ["", "## Not found", ""]
        lines += [
            "Each target is cropped to its upper and to its lower half; a structure that lies at least "
            f"{study.protocol.crop_margin_mm:g} mm outside must not be found. Sensitivity: inside and found. "
            "Specificity: cropped away and not found. AUC: of the round trip.",
            "",
            *not_found,
        ]
    if main_rows(study, "landmark"):
        reliability = reliability_table(study)
        lines += ["", "## Confidence: real error of landmarks by their round trip"] if reliability else []
        lines += reliability
        lines += _plot(plots, "reliability", "Real error by round trip")
    return lines


def _methods(study: Study, plots: Mapping[str, str]) -> list[str]:
    lines, by_target = [], study.protocol.wilcoxon_unit == "target"
    if len(study.methods) > 1:
        lines += ["", "## Other methods on the same retrievals", ""]
        lines += [
            "Mean ± standard deviation (median) where both methods answered. p: Wilcoxon's signed-rank test, "
            f"two-sided, pairing {'each structure’s mean in each target' if by_target else 'single retrievals'}.",
        ]
        for method in study.methods[1:]:
            lines += ["", f"### {method.name}", "", *tables.comparison_table(study, method.name)]
        lines += _plot(plots, "methods", "Share of retrievals with at most a given error, by method")
    return [
        *lines,
        "",
        "## Times (wall clock, on the machine that made this report)",
        "",
        *tables.time_table(study),
        *TIMES,
    ]


def write_figures(study: Study, path: str | Path) -> None:
    """The headline figures as JSON: measure → number of supports → mean, std, median, p90 and count."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for measure in measures(study):
        for shots in used_shots(study):
            of_shots = _figures(study, measure.kind, shots, measure.definition, measure.value)
            figures.setdefault(measure.key, {})[shots_text(shots)] = of_shots
    of_few = _figures(study, "few-shot box", None, None, iou)
    if of_few["count"]:
        figures.setdefault("box IoU", {})[f"mean of {study.protocol.few_shots} boxes"] = of_few
    Path(path).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _figures(study: Study, kind: str, shots: int | None, definition: str | None, value: Value) -> dict[str, float]:
    summary = summarized(main_rows(study, kind, shots, definition), value, study)
    names = ("mean", "std", "median", "p90")
    figures = {name: round(getattr(summary, name), 3) for name in names if np.isfinite(getattr(summary, name))}
    return {**figures, "count": summary.count}
