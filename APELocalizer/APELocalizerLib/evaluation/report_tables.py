"""The tables of the report, as Markdown lines."""

from collections.abc import Sequence

import numpy as np

from APELocalizerLib.evaluation.box_enlargement import enlargements
from APELocalizerLib.evaluation.confidence_tables import auc_text
from APELocalizerLib.evaluation.markdown_tables import figure, number, table
from APELocalizerLib.evaluation.measures import (
    Measure,
    Value,
    error_along,
    iou,
    main_rows,
    measures,
    shots_text,
    summarized,
    used_shots,
)
from APELocalizerLib.evaluation.metrics import pooled
from APELocalizerLib.evaluation.retrieval_table import EXTREME_POINT, Retrieval, select
from APELocalizerLib.evaluation.significance import compare
from APELocalizerLib.evaluation.study import Study
from APELocalizerLib.methods.method import ANSWER, PAIR, SCAN, SEARCH


def overview(study: Study) -> list[str]:
    """One line per measure, one column per number of supports."""
    tried = used_shots(study)
    rows = []
    for measure in measures(study):
        groups = [main_rows(study, measure.kind, shots, measure.definition) for shots in tried]
        rows.append([measure.text, *[_counted(group, measure.value, study, measure.digits) for group in groups]])
    few = main_rows(study, "few-shot box")
    if few:
        text = f"box IoU, mean of {study.protocol.few_shots} boxes, {study.protocol.folds} draws"
        rows.append([text, *[_counted(few, iou, study, 2) if shots == 1 else "–" for shots in tried]])
    rows.append(["AUC of “not found”, landmarks", *[auc_text(study, shots) for shots in tried]])
    return table(["mean ± standard deviation (median)", *map(shots_text, tried)], rows)


def _counted(rows: Sequence[Retrieval], value: Value, study: Study, digits: int) -> str:
    return f"{figure(summarized(rows, value, study), digits)}, n = {len(rows)}" if rows else "–"


def by_target(study: Study) -> list[str]:
    """One line per target, one column per measure, for single supports."""
    shown = [measure for measure in measures(study) if main_rows(study, measure.kind, 1, measure.definition)]
    rows = []
    for target in study.targets:
        cells = []
        for measure in shown:
            group = [row for row in main_rows(study, measure.kind, 1, measure.definition) if row.target == target]
            cells.append(figure(summarized(group, measure.value, study), measure.digits))
        rows.append([target, *cells])
    return table(["target", *[measure.text for measure in shown]], rows)


def by_name(study: Study, kind: str, value: Value, digits: int = 1, definition: str | None = None) -> list[str]:
    """A table with one row per structure, and for each number of supports its columns.

    The last of them is the quantile on the bad side: 90 % of errors, 10 % of overlaps.
    """
    bad = 0.1 if value is iou else 0.9
    tried = used_shots(study) if kind != "few-shot box" else [None]
    groups = [main_rows(study, kind, shots, definition) for shots in tried]
    names = sorted({row.name for group in groups for row in group})
    header, lines = ["name"], [["**all**"], *[[name] for name in names]]
    for shots, group in zip(tried, groups, strict=True):
        text = "" if shots is None else f"{shots_text(shots)}: "
        header += [f"{text}n", "mean ± std (median)", f"{100 * bad:.0f} %"]
        parts = [group, *[[row for row in group if row.name == name] for name in names]]
        for line, part in zip(lines, parts, strict=True):
            values = [value(row) for row in part if np.isfinite(value(row))]
            quantile = f"{np.quantile(values, bad):.{digits}f}" if values else "–"
            line += [str(len(part)), figure(summarized(part, value, study), digits), quantile]
    return table(header, lines)


def uncertainty_text(study: Study) -> list[str]:
    """What the annotations' own uncertainty means for the landmark errors."""
    rows = [row for row in main_rows(study, "landmark", 1) if row.uncertainty_mm > 0 and np.isfinite(row.error_mm)]
    if not rows:
        return []
    errors, sigmas = np.array([(row.error_mm, row.uncertainty_mm) for row in rows]).T
    mean_square, of_annotations = float((errors**2).mean()), float((sigmas**2).mean())
    within = float((errors <= 2 * sigmas).mean())
    return [
        "",
        f"The annotations themselves are uncertain by {of_annotations**0.5:.1f} mm (one sigma of target and support "
        f"together, root mean square over the {len(rows)} retrievals with one support that state it). The root mean "
        f"square error is {mean_square**0.5:.1f} mm, and {max(mean_square - of_annotations, 0.0) ** 0.5:.1f} mm "
        f"without that part; {100 * within:.0f} % of the errors are within two sigma.",
    ]


def across_side_text(study: Study, definition: str | None) -> list[str]:
    """How large the errors of extreme points are across the side of the box that they define."""
    parts = []
    for shots in used_shots(study):
        rows = main_rows(study, EXTREME_POINT, shots, definition)
        if rows:
            across = summarized(rows, lambda row: error_along(row.part[0])(row), study)
            parts.append(f"{shots_text(shots)}: {figure(across)} mm")
    if not parts:
        return []
    return [
        "",
        "An extreme point is well defined only in the direction in which it is extreme, which is all that a box needs. "
        f"Error in that direction alone, {'; '.join(parts)}.",
    ]


def enlargement_table(study: Study) -> list[str]:
    """α and VR@99 of every organ (APE paper, Table 4), with a dash where no enlargement gives the recall."""
    of_organs = enlargements(main_rows(study, "few-shot box"), study)
    alpha = "α" if study.protocol.enlargement == "factor" else "margin, mm"
    rows = [
        [organ.organ, str(organ.boxes), number(organ.alpha, 2), f"{organ.recall:.3f}", number(organ.volume_ratio, 1)]
        for organ in of_organs
    ]
    ratios = [organ.volume_ratio for organ in of_organs if np.isfinite(organ.volume_ratio)]
    mean = number(float(np.mean(ratios)) if ratios else float("nan"), 1)
    rows.insert(0, ["**mean of the organs**", str(sum(organ.boxes for organ in of_organs)), "", "", mean])
    return table(["organ", "boxes", alpha, "recall", "VR@99"], rows)


def time_table(study: Study) -> list[str]:
    """Seconds of every method."""

    def text(seconds: float) -> str:
        if np.isnan(seconds):
            return "–"
        return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.2f} ms"

    timed = (SCAN, PAIR, SEARCH, ANSWER)
    rows = [[method.name, *[text(method.clock.mean(what)) for what in timed]] for method in study.methods]
    header = ["method", "once per scan", "once per pair of scans", "per place: lookup", "per place: localize"]
    return table(header, rows)


def comparison_table(study: Study, other: str) -> list[str]:
    """The first method against another one, on the questions that both answered."""
    few = Measure(f"box IoU, mean of {study.protocol.few_shots} boxes", "few-shot box", None, iou, 2)
    rows = []
    for measure in [*measures(study), few]:
        for shots in [None] if measure is few else used_shots(study):
            rows += _compared(study, other, measure, shots)
    first = study.methods[0].name
    return table(["", "n", first, other, "difference of means", "p", "pairs tested"], rows) if rows else []


def _compared(study: Study, other: str, measure: Measure, shots: int | None) -> list[list[str]]:
    """The row of one measure and number of supports; none where the two methods share no question."""
    result = compare(
        main_rows(study, measure.kind, shots, measure.definition),
        select(study.retrievals, measure.kind, other, shots, measure.definition),
        measure.value,
        study.protocol.wilcoxon_unit,
    )
    if not result.count:
        return []
    by = f", {shots_text(shots)}" if shots is not None else ""
    first, second = (pooled(values, [""] * len(values)) for values in (result.first, result.second))
    p = "–" if np.isnan(result.p) else f"{result.p:.1e}" if result.p < 0.001 else f"{result.p:.3f}"
    gain = f"{first.mean - second.mean:+.{measure.digits}f}"
    figures = [figure(first, measure.digits), figure(second, measure.digits), gain, p]
    return [[measure.text + by, str(result.count), *figures, str(result.units)]]
