"""Report of a retrieval study: one CSV row per retrieval, and a Markdown page with the tables."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from APELocalizerLib.evaluation.metrics import auc, best_threshold, summary
from APELocalizerLib.evaluation.study import Retrieval


def write_csv(results: Sequence[Retrieval], path: str | Path) -> None:
    """Every single retrieval as a row; the supports are joined by "+"."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [each.name for each in fields(Retrieval)])
        writer.writeheader()
        for result in results:
            row = {key: f"{v:.3f}" if isinstance(v, float) else v for key, v in asdict(result).items()}
            writer.writerow({**row, "supports": "+".join(result.supports)})


def markdown(results: Sequence[Retrieval], title: str, lines: Sequence[str] = ()) -> str:
    """The tables: landmarks, organs, not found; overall first, then by name."""
    points = [r for r in results if r.kind == "landmark"]
    organs = [r for r in results if r.kind == "organ"]
    absent = [r for r in results if r.kind == "absent"]
    parts = [f"# {title}", "", *lines, "", "## Landmarks: distance from the annotation, mm", ""]
    parts += _table(points, lambda r: r.error_mm)
    if organs:
        parts += ["", "## Organs: distance of the box centers, mm", ""]
        parts += _table(organs, lambda r: r.error_mm)
        parts += ["", "## Organs: mean distance of the box walls, mm", ""]
        parts += _table(organs, lambda r: r.edge_error_mm)
        parts += ["", "## Organs: intersection over union of the boxes (not enlarged)", ""]
        parts += _table(organs, lambda r: r.iou, digits=2)
    if points and absent:
        parts += ["", *_not_found(points, absent)]
    return "\n".join(parts) + "\n"


def _table(results: Sequence[Retrieval], value: Callable[[Retrieval], float], digits: int = 1) -> list[str]:
    lines = ["| name | retrievals | mean ± std | median | 90 % |", "|---|---|---|---|---|"]
    names = sorted({r.name for r in results})
    groups = [("**all**", list(results)), *((name, [r for r in results if r.name == name]) for name in names)]
    for name, group in groups:
        s = summary(np.array([value(r) for r in group]))
        mean, std, median, p90 = (f"{x:.{digits}f}" for x in (s.mean, s.std, s.median, s.p90))
        lines.append(f"| {name} | {s.count} | {mean} ± {std} | {median} | {p90} |")
    return lines


def _not_found(points: Sequence[Retrieval], absent: Sequence[Retrieval]) -> list[str]:
    inside = np.array([r.round_trip_mm for r in points])
    outside = np.array([r.round_trip_mm for r in absent])
    threshold, kept, refused = best_threshold(inside, outside)
    return [
        "## Not found",
        "",
        f"Round-trip error of {len(inside)} landmarks inside and {len(outside)} cropped out of the field of view: "
        f"AUC {auc(inside, outside):.3f}.",
        "",
        "| threshold, mm | inside: found | outside: not found |",
        "|---|---|---|",
        f"| in use | {np.mean([r.found for r in points]):.3f} | {np.mean([not r.found for r in absent]):.3f} |",
        f"| {threshold:.1f} (best balanced) | {kept:.3f} | {refused:.3f} |",
    ]
