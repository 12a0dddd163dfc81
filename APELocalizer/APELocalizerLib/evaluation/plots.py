"""The report's plots, drawn with matplotlib. Lengths in mm."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from APELocalizerLib.core.library.spoken_names import spoken_name
from APELocalizerLib.evaluation.measures import (
    DEFINITIONS,
    Value,
    error,
    iou,
    main_rows,
    reliability_bins,
    shots_text,
    used_shots,
    with_round_trip,
)
from APELocalizerLib.evaluation.retrieval_table import Retrieval, select
from APELocalizerLib.evaluation.significance import on_common_questions
from APELocalizerLib.evaluation.study import Study

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colors that can be told apart by everyone (Okabe and Ito)."""

FEWEST_SHOWN = 10
"""Fewer retrievals than this have neither a cumulative curve nor a 90 % quantile to speak of."""

DPI = 110
"""Dots per inch of the plots."""

LARGEST_SHOWN_MM = 120.0
"""Where the axes of errors end."""

PLAIN_TEXT: dict[Any, Any] = {"text.parse_math": False}
"""Users' names are no formulas, even if they hold dollar signs."""


@matplotlib.rc_context(PLAIN_TEXT)
def draw_all(study: Study, folder: str | Path) -> dict[str, str]:
    """Draw every plot that the study has figures for; returns the file names by the plots' names."""
    plots: Mapping[str, Callable[[Study], Figure | None]] = {
        "error_cdf": error_cdf,
        "structures": structures,
        "boxes": boxes,
        "reliability": reliability,
        "methods": methods,
    }
    written = {}
    for name, draw in plots.items():
        figure = draw(study)
        if figure is not None:
            save(figure, Path(folder) / f"{name}.png")
            written[name] = f"{name}.png"
    return written


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG without a date, so that the same study gives the same file."""
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def error_cdf(study: Study) -> Figure | None:
    """Share of the first method's retrievals with at most a given error, for landmarks and organ points."""
    kinds: dict[tuple[str, str | None], str] = {("landmark", None): "landmarks", **DEFINITIONS}

    def shown(kind: str, definition: str | None) -> dict[int, list[Retrieval]]:
        rows = {shots: _with_errors(main_rows(study, kind, shots, definition)) for shots in used_shots(study)}
        return {shots: group for shots, group in rows.items() if len(group) >= FEWEST_SHOWN}

    kinds = {key: text for key, text in kinds.items() if shown(*key)}
    if not kinds:
        return None
    figure, axes = _panels(len(kinds))
    for axis, ((kind, definition), text) in zip(axes, kinds.items(), strict=True):
        groups = shown(kind, definition)
        for shots, color in zip(used_shots(study), COLORS, strict=False):
            if shots in groups:
                _cumulative(axis, [row.error_mm for row in groups[shots]], shots_text(shots), color)
        _finish_cumulative(axis, f"{text}, n = {' / '.join(str(len(rows)) for rows in groups.values())}")
    _legend_above(figure, max(axes, key=lambda axis: len(axis.lines)))
    return figure


def methods(study: Study) -> Figure | None:
    """The same for all methods, each panel on the single-support retrievals that all of its methods answered."""
    if len(study.methods) < 2:
        return None
    kinds: dict[tuple[str, str | None], str] = {("landmark", None): "landmarks", **DEFINITIONS}
    panels = []
    for (kind, definition), text in kinds.items():
        of_methods = [
            (m.name, _with_errors(select(study.retrievals, kind, m.name, 1, definition))) for m in study.methods
        ]
        present = [(name, rows) for name, rows in of_methods if rows]
        common = on_common_questions([rows for _, rows in present])
        if len(present) > 1 and len(common[0]) >= FEWEST_SHOWN:
            panels.append((text, [(name, rows) for (name, _), rows in zip(present, common, strict=True)]))
    if not panels:
        return None
    figure, axes = _panels(len(panels))
    for axis, (text, lines) in zip(axes, panels, strict=True):
        for (name, rows), color in zip(lines, COLORS, strict=False):
            _cumulative(axis, [row.error_mm for row in rows], name, color)
        _finish_cumulative(axis, f"{text}, n = {len(lines[0][1])}")
    _legend_above(figure, max(axes, key=lambda axis: len(axis.lines)))
    return figure


def structures(study: Study) -> Figure | None:
    """Mean and median error of each landmark and organ center."""
    bars: list[tuple[str, list[list[float]]]] = []
    shots = used_shots(study)
    for kind, definition in (("landmark", None), ("center", "mask"), ("center", "box")):
        names = sorted({row.name for row in main_rows(study, kind, definition=definition)})
        for name in names:
            groups = [_named(main_rows(study, kind, number, definition), name, error) for number in shots]
            suffix = {None: "", "mask": " (center, mask)", "box": " (center, box)"}[definition]
            bars.append((f"{spoken_name(name)}{suffix}", groups))
    return _bars(
        bars, [shots_text(number) for number in shots], "error, mm (bar: mean, dot: median, line: 90 %, from n = 10)"
    )


def boxes(study: Study) -> Figure | None:
    """Overlap of each organ's boxes, of one support and of the mean of a few."""
    single, few = main_rows(study, "box", 1), main_rows(study, "few-shot box")
    names = sorted({row.name for row in (*single, *few)})
    bars = [(spoken_name(name), [_named(single, name, iou), _named(few, name, iou)]) for name in names]
    texts = [shots_text(1), f"mean of {study.protocol.few_shots} supports' boxes (or all, if fewer)"]
    return _bars(bars, texts, "IoU (bar: mean, dot: median, line: 10 %, from n = 10)", low_quantile=True)


def reliability(study: Study) -> Figure | None:
    """Real error of landmarks against their round trip, binned."""
    groups = [(shots, with_round_trip(main_rows(study, "landmark", shots))) for shots in used_shots(study)]
    groups = [(shots, rows) for shots, rows in groups if rows]
    if not groups:
        return None
    figure, axes = _panels(len(groups))
    for axis, (shots, rows), color in zip(axes, groups, COLORS, strict=False):
        trips, errors = np.array([(row.round_trip_mm, row.error_mm) for row in rows]).T
        largest = float(max(60.0, min(max(errors.max(), trips.max()) * 1.05, LARGEST_SHOWN_MM)))
        faint = float(np.clip(60 / len(rows), 0.3, 0.9))
        axis.scatter(trips, errors, s=9, color=color, alpha=faint, linewidths=0, label="retrievals")
        for low, high, inside in reliability_bins(rows):
            upper = min(high, largest)
            middle = (low + upper) / 2
            axis.hlines(inside.mean(), low, upper, color="black", linewidth=1.5)
            ends = np.quantile(inside, [0.25, 0.75])
            axis.vlines(middle, ends[0], ends[1], color="black", linewidth=1)
            axis.annotate(str(len(inside)), (middle, 0.985 * largest), fontsize=6, rotation=90, ha="center", va="top")
        axis.plot([0, largest], [0, largest], color="gray", linewidth=0.8, linestyle=":", label="error = round trip")
        axis.plot([], [], color="black", linewidth=1.5, label="mean of the bin (line: middle half; number: count)")
        axis.set(xlim=(0, largest), ylim=(0, largest), xlabel="round trip, mm", ylabel="real error, mm")
        axis.set_title(f"landmarks, {shots_text(shots)}, n = {len(rows)}", fontsize=10)
    _legend_above(figure, axes[0])
    return figure


# Parts ----------------------------------------------------------------------------------------------------------------


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """So many panels, at most three beside each other."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(4.2 * columns, 5.0), 3.6 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, 2 * columns)  # in halves, so that a last row with fewer stands in the middle
    axes = []
    for number in range(count):
        row, column = divmod(number, columns)
        start = 2 * column + columns - min(columns, count - row * columns)
        axes.append(figure.add_subplot(grid[row, start : start + 2]))
    return figure, axes


def _with_errors(rows: Sequence[Retrieval]) -> list[Retrieval]:
    """Those of the rows that have a distance; methods that answer along some axes only have none."""
    return [row for row in rows if np.isfinite(row.error_mm)]


def _named(rows: Sequence[Retrieval], name: str, value: Value) -> list[float]:
    return [value(row) for row in rows if row.name == name and np.isfinite(value(row))]


def _cumulative(axis: Axes, errors: Sequence[float], text: str, color: str) -> None:
    values = np.sort([value for value in errors if np.isfinite(value)])
    if len(values):
        axis.step(
            np.append(0.0, values), np.arange(len(values) + 1) / len(values), where="post", color=color, label=text
        )


def _finish_cumulative(axis: Axes, title: str) -> None:
    axis.set(xlim=(0, LARGEST_SHOWN_MM), ylim=(0, 1), xlabel="error, mm", ylabel="share of retrievals")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)


def _bars(
    bars: Sequence[tuple[str, Sequence[Sequence[float]]]], texts: Sequence[str], label: str, low_quantile: bool = False
) -> Figure | None:
    """Horizontal bars, one group per structure: mean as bar, median as dot, the 10 or 90 % quantile as line."""
    if not bars:
        return None
    figure = Figure(figsize=(8.0, 0.8 + 0.3 * len(bars)), layout="constrained")
    axis = figure.subplots()
    height = 0.8 / len(texts)
    for number, (text, color) in enumerate(zip(texts, COLORS, strict=False)):
        for row, (_, groups) in enumerate(bars):
            values = groups[number]
            if not len(values):
                continue
            y = row + (number - (len(texts) - 1) / 2) * height
            mean, median = np.mean(values), np.median(values)
            axis.barh(y, mean, height * 0.9, color=color, alpha=0.55)
            if len(values) >= FEWEST_SHOWN:
                axis.hlines(y, mean, np.quantile(values, 0.1 if low_quantile else 0.9), color=color, linewidth=1)
            axis.plot(median, y, ".", color="black", markersize=4)
        axis.barh(0, 0, color=color, alpha=0.55, label=text)
    names = [f"{name}, n = {' / '.join(str(len(values)) for values in groups)}" for name, groups in bars]
    axis.set_yticks(range(len(bars)), names, fontsize=8)
    axis.set(xlabel=label, ylim=(len(bars) - 0.5, -0.5))
    axis.set_xlim(left=0)
    axis.grid(axis="x", alpha=0.3)
    _legend_above(figure, axis)
    return figure


def _legend_above(figure: Figure, axis: Axes) -> None:
    """Legend of one panel above all of them."""
    handles, texts = axis.get_legend_handles_labels()
    figure.legend(handles, texts, fontsize=8, loc="outside upper center", ncols=len(texts))
