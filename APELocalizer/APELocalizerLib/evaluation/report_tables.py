"""The tables of the report, as Markdown lines."""

from collections.abc import Callable, Sequence

import numpy as np

from APELocalizerLib.evaluation.few_shot import enlargements
from APELocalizerLib.evaluation.metrics import Summary, auc, best_threshold, pooled, rank_correlation
from APELocalizerLib.evaluation.retrievals import Retrieval, select
from APELocalizerLib.evaluation.significance import compare
from APELocalizerLib.evaluation.study import Study
from APELocalizerLib.methods.method import ANSWER, PAIR, SCAN, SEARCH

Value = Callable[[Retrieval], float]
BINS_MM = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, float("inf"))
"""Bins of the round-trip error in the table and plot of its reliability."""

DEFINITIONS = {
    ("center", "mask"): "organ centers (label maps)",
    ("center", "box"): "organ centers (boxes)",
    ("edge", "mask"): "extreme points (label maps)",
    ("edge", "box"): "centers of box faces (boxes)",
}


def error(each: Retrieval) -> float:
    """Radial error in mm."""
    return each.error_mm


def walls(each: Retrieval) -> float:
    """Mean distance of the six walls in mm (AWD)."""
    return each.wall_error_mm


def iou(each: Retrieval) -> float:
    """Intersection over union of the boxes."""
    return each.iou


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; bars in names are told from those between the columns."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    lines = [cells[0], ["---"] * len(header), *cells[1:]]
    return ["| " + " | ".join(line) + " |" for line in lines]


def shots_text(shots: int) -> str:
    """How a number of supports is called."""
    return {0: "all supports", 1: "one support"}.get(shots, f"{shots} supports")


def figure(summary: Summary, digits: int = 1) -> str:
    """Mean ± standard deviation (median), or a dash for nothing."""
    if not summary.count:
        return "–"
    return f"{summary.mean:.{digits}f} ± {summary.std:.{digits}f} ({summary.median:.{digits}f})"


def number(value: float, digits: int) -> str:
    """The number, or a dash for NaN."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def summarized(rows: Sequence[Retrieval], value: Value, study: Study) -> Summary:
    """Summary of the rows that have a value, pooled as the protocol says."""
    values = np.array([value(each) for each in rows])
    known = np.isfinite(values)
    names = [each.name for each, keep in zip(rows, known, strict=True) if keep]
    return pooled(values[known], names, study.protocol.pooling)


def main_rows(study: Study, kind: str, shots: int | None = None, definition: str | None = None) -> list[Retrieval]:
    """Retrievals of the study's first method."""
    return select(study.retrievals, kind, study.methods[0].name, shots, definition)


def used_shots(study: Study) -> list[int]:
    """Numbers of supports that were tried, one support first."""
    found = {each.shots for each in study.retrievals if each.kind != "few-shot box"}
    return sorted(found, key=lambda shots: (shots == 0, shots))


def measures(study: Study) -> list[tuple[str, str, str | None, Value, int]]:
    """(text, kind, definition, value, digits) of everything that was measured in this study."""
    found = [("landmarks, mm", "landmark", None, error, 1)]
    for (kind, definition), text in DEFINITIONS.items():
        found.append((f"{text}, mm", kind, definition, error, 1))
    found += [("centers of found boxes, mm", "box", None, error, 1), ("box walls, mm", "box", None, walls, 1)]
    found.append(("box IoU", "box", None, iou, 2))
    return [each for each in found if main_rows(study, each[1], definition=each[2])]


def overview(study: Study) -> list[str]:
    """One line per measure, one column per number of supports."""
    shots = used_shots(study)
    rows = []
    for text, kind, definition, value, digits in measures(study):
        groups = [main_rows(study, kind, each, definition) for each in shots]
        rows.append([text, *[_counted(group, value, study, digits) for group in groups]])
    few = main_rows(study, "few-shot box")
    if few:
        text = f"box IoU, mean of {study.protocol.few_shots} boxes, {study.protocol.folds} draws"
        rows.append([text, *[_counted(few, iou, study, 2) if each == 1 else "–" for each in shots]])
    rows.append(["AUC of “not found”, landmarks", *[_auc_text(study, each) for each in shots]])
    return table(["mean ± standard deviation (median)", *map(shots_text, shots)], rows)


def _counted(rows: Sequence[Retrieval], value: Value, study: Study, digits: int) -> str:
    return f"{figure(summarized(rows, value, study), digits)}, n = {len(rows)}" if rows else "–"


def by_target(study: Study) -> list[str]:
    """One line per target, one column per measure, for single supports."""
    shown = [each for each in measures(study) if main_rows(study, each[1], 1, each[2])]
    rows = []
    for target in study.targets:
        groups = [
            [r for r in main_rows(study, kind, 1, definition) if r.target == target]
            for _, kind, definition, *_ in shown
        ]
        figures = [figure(summarized(g, each[3], study), each[4]) for g, each in zip(groups, shown, strict=True)]
        rows.append([target, *figures])
    return table(["target", *[each[0] for each in shown]], rows)


def by_name(study: Study, kind: str, value: Value, digits: int = 1, definition: str | None = None) -> list[str]:
    """A table with one row per structure, and for each number of supports its columns.

    The last of them is the quantile on the bad side: 90 % of errors, 10 % of overlaps.
    """
    bad = 0.1 if value is iou else 0.9
    shots = used_shots(study) if kind != "few-shot box" else [None]
    groups = [main_rows(study, kind, each, definition) for each in shots]
    names = sorted({each.name for group in groups for each in group})
    header, rows = ["name"], [["**all**"], *[[name] for name in names]]
    for each, group in zip(shots, groups, strict=True):
        text = "" if each is None else f"{shots_text(each)}: "
        header += [f"{text}n", "mean ± std (median)", f"{100 * bad:.0f} %"]
        parts = [group, *[[row for row in group if row.name == name] for name in names]]
        for row, part in zip(rows, parts, strict=True):
            values = [value(each) for each in part if np.isfinite(value(each))]
            quantile = f"{np.quantile(values, bad):.{digits}f}" if values else "–"
            row += [str(len(part)), figure(summarized(part, value, study), digits), quantile]
    return table(header, rows)


def uncertainty_text(study: Study) -> list[str]:
    """What the annotations' own uncertainty means for the landmark errors."""
    rows = [each for each in main_rows(study, "landmark", 1) if each.uncertainty_mm > 0]
    if not rows:
        return []
    errors, sigmas = (np.array([getattr(r, name) for r in rows]) for name in ("error_mm", "uncertainty_mm"))
    total, own = float((errors**2).mean()), float((sigmas**2).mean())
    within = float((errors <= 2 * sigmas).mean())
    return [
        "",
        f"The annotations are uncertain themselves, by {own**0.5:.1f} mm (one sigma of target and support together, "
        f"root mean square over the {len(rows)} retrievals with one support that state it). The root mean square error "
        f"is {total**0.5:.1f} mm, and {max(total - own, 0.0) ** 0.5:.1f} mm without that part; "
        f"{100 * within:.0f} % of the errors are within two sigma.",
    ]


def own_axis_text(study: Study, definition: str) -> list[str]:
    """How large the errors of extreme points are along the direction that they are the edge of."""
    lines = []
    for shots in used_shots(study):
        rows = main_rows(study, "edge", shots, definition)
        if rows:
            along = summarized(rows, lambda each: abs(getattr(each, f"error_{each.part[0]}_mm")), study)
            lines.append(f"{shots_text(shots)}: {figure(along)} mm")
    if not lines:
        return []
    return [
        "",
        "An extreme point is well defined only along the direction that it is the edge of, which is all that a box "
        "needs. "
        f"Error in that direction alone, {'; '.join(lines)}.",
    ]


def enlargement_table(study: Study) -> list[str]:
    """α and VR@99 of every organ (APE paper, Table 4), with a dash where no enlargement gives the recall."""
    found = enlargements(main_rows(study, "few-shot box"), study)
    alpha = "α" if study.protocol.enlargement == "factor" else "margin, mm"
    rows = [[e.organ, str(e.boxes), number(e.alpha, 2), f"{e.recall:.3f}", number(e.volume_ratio, 1)] for e in found]
    ratios = [e.volume_ratio for e in found if np.isfinite(e.volume_ratio)]
    mean = number(float(np.mean(ratios)) if ratios else float("nan"), 1)
    rows.insert(0, ["**mean of the organs**", str(sum(e.boxes for e in found)), "", "", mean])
    return table(["organ", "boxes", alpha, "recall", "VR@99"], rows)


def not_found_table(study: Study) -> list[str]:
    """Sensitivity, specificity and AUC, for landmarks, centers and boxes."""
    rows = []
    for shots in used_shots(study):
        for kind in ("landmark", "center", "box"):
            inside, outside = main_rows(study, kind, shots), main_rows(study, f"absent {kind}", shots)
            if not inside or not outside:
                continue
            scores = [np.array([each.round_trip_mm for each in group]) for group in (inside, outside)]
            threshold, kept, refused = best_threshold(*scores)
            rows.append(
                [
                    f"{kind}, {shots_text(shots)}",
                    f"{len(inside)} / {len(outside)}",
                    f"{auc(*scores):.3f}",
                    f"{np.mean([each.found for each in inside]):.3f}",
                    f"{np.mean([not each.found for each in outside]):.3f}",
                    f"{threshold:.1f} mm: {kept:.3f} / {refused:.3f}",
                ]
            )
    header = ["", "inside / cropped away", "AUC", "sensitivity", "specificity", "best balanced threshold: both"]
    return table(header, rows) if rows else []


def _auc_text(study: Study, shots: int) -> str:
    inside, outside = main_rows(study, "landmark", shots), main_rows(study, "absent landmark", shots)
    if not inside or not outside:
        return "–"
    return f"{auc(*[np.array([each.round_trip_mm for each in group]) for group in (inside, outside)]):.3f}"


def reliability_bins(rows: Sequence[Retrieval]) -> list[tuple[float, float, np.ndarray]]:
    """(low, high, real errors) of every bin of the round-trip error that holds anything."""
    trips, errors = np.array([(each.round_trip_mm, each.error_mm) for each in rows]).reshape(-1, 2).T
    pairs = list(zip(BINS_MM[:-1], BINS_MM[1:], strict=True))
    found = [(low, high, errors[(trips >= low) & (trips < high)]) for low, high in pairs]
    return [each for each in found if len(each[2])]


def reliability_table(study: Study) -> list[str]:
    """Real error of the landmarks by their round-trip error."""
    lines = []
    for shots in used_shots(study):
        rows = main_rows(study, "landmark", shots)
        if not rows:
            continue
        parts = [
            [_bin_text(low, high), str(len(e)), f"{e.mean():.1f}", f"{np.median(e):.1f}", f"{np.quantile(e, 0.9):.1f}"]
            for low, high, e in reliability_bins(rows)
        ]
        rank = rank_correlation(*np.array([(each.round_trip_mm, each.error_mm) for each in rows]).T)
        lines += ["", f"{shots_text(shots).capitalize()} (rank correlation {number(rank, 2)}):", ""]
        lines += table(["round trip, mm", "n", "mean error", "median", "90 %"], parts)
    return lines


def _bin_text(low: float, high: float) -> str:
    return f"over {low:.0f}" if np.isinf(high) else f"{low:.0f} to {high:.0f}"


def time_table(study: Study) -> list[str]:
    """Seconds of every method."""

    def text(seconds: float) -> str:
        if np.isnan(seconds):
            return "–"
        return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.2f} ms"

    what = (SCAN, PAIR, SEARCH, ANSWER)
    rows = [[method.name, *[text(method.clock.mean(each)) for each in what]] for method in study.methods]
    header = ["method", "once per scan", "once per pair of scans", "per place: lookup", "per place: localize"]
    return table(header, rows)


def comparison_table(study: Study, other: str) -> list[str]:
    """The first method against another one, on the questions that both answered."""
    rows = []
    kinds = [*measures(study), (f"box IoU, mean of {study.protocol.few_shots} boxes", "few-shot box", None, iou, 2)]
    for text, kind, definition, value, digits in kinds:
        for shots in [None] if kind == "few-shot box" else used_shots(study):
            first = main_rows(study, kind, shots, definition)
            second = select(study.retrievals, kind, other, shots, definition)
            result = compare(first, second, value, study.protocol.wilcoxon_unit)
            if not result.count:
                continue
            by = f", {shots_text(shots)}" if shots is not None else ""
            a, b = (pooled(each, [""] * len(each)) for each in (result.first, result.second))
            p = "–" if np.isnan(result.p) else f"{result.p:.1e}" if result.p < 0.001 else f"{result.p:.3f}"
            gain = f"{a.mean - b.mean:+.{digits}f}"
            figures = [figure(a, digits), figure(b, digits), gain, p]
            rows.append([text + by, str(result.count), *figures, str(result.units)])
    first = study.methods[0].name
    return table(["", "n", first, other, "difference of means", "p", "pairs tested"], rows) if rows else []
