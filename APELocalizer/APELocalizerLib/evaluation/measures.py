"""What a study measures, and the retrievals and summaries that its tables and plots are made of. Lengths in mm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.evaluation.metrics import Summary, pooled
from APELocalizerLib.evaluation.retrieval_table import EXTREME_POINT, Retrieval, select
from APELocalizerLib.evaluation.study import Study

Value = Callable[[Retrieval], float]

BINS_MM = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, float("inf"))
"""Bins of the round trip in the table and plot of its reliability."""

DEFINITIONS: dict[tuple[str, str | None], str] = {
    ("center", "mask"): "organ centers (label maps)",
    ("center", "box"): "organ centers (boxes)",
    (EXTREME_POINT, "mask"): "extreme points (label maps)",
    (EXTREME_POINT, "box"): "centers of box sides (boxes)",
}
"""What the points of organs are called, by kind and definition."""

KEYS = {"centers of box sides (boxes), mm": "centers of box faces (boxes), mm", "box sides, mm": "box walls, mm"}
"""Names of measures in figures.json that differ from those in the tables: files of before are to stay comparable."""

AXES = {"r": "right–left", "a": "anterior–posterior", "s": "superior–inferior"}
"""Axes of the patient, as tables call them."""


@dataclass(frozen=True)
class Measure:
    """Something that is measured: its name, the retrievals that it concerns, its value of one, and digits shown."""

    text: str
    kind: str
    definition: str | None
    value: Value
    digits: int = 1

    @property
    def key(self) -> str:
        """Its name in figures.json."""
        return KEYS.get(self.text, self.text)


def error(retrieval: Retrieval) -> float:
    """Radial error in mm."""
    return retrieval.error_mm


def side_error(retrieval: Retrieval) -> float:
    """Mean distance of the box's six sides in mm (AWD)."""
    return retrieval.wall_error_mm


def iou(retrieval: Retrieval) -> float:
    """Intersection over union of the boxes."""
    return retrieval.iou


def error_along(axis: str) -> Value:
    """Error along one axis (r, a, s) without its sign, in mm."""
    return lambda retrieval: abs(getattr(retrieval, f"error_{axis}_mm"))


def measures(study: Study) -> list[Measure]:
    """Everything that the study measured of its first method.

    Where a method of the study answers along some axes only, the error along each of them is a measure of its own.
    """
    points = [("landmarks", "landmark", None), *((text, *key) for key, text in DEFINITIONS.items())]
    candidates = [measure for point in points for measure in _point_measures(study, *point)]
    candidates.append(Measure("centers of found boxes, mm", "box", None, error))
    candidates.append(Measure("box sides, mm", "box", None, side_error))
    candidates.append(Measure("box IoU", "box", None, iou, 2))
    return [measure for measure in candidates if main_rows(study, measure.kind, definition=measure.definition)]


def partial_axes(study: Study, kind: str, definition: str | None = None) -> list[str]:
    """Axes (r, a, s) along which a method answers that does not answer along all three."""
    partial = [row for row in select(study.retrievals, kind, definition=definition) if np.isnan(row.error_mm)]
    return [axis for axis in AXES if any(np.isfinite(error_along(axis)(row)) for row in partial)]


def _point_measures(study: Study, text: str, kind: str, definition: str | None) -> list[Measure]:
    axes = partial_axes(study, kind, definition)
    rows = main_rows(study, kind, definition=definition)
    along = [Measure(f"{text}, {AXES[axis]} only, mm", kind, definition, error_along(axis)) for axis in axes]
    if axes and not any(np.isfinite(row.error_mm) for row in rows):
        return along
    return [Measure(f"{text}, mm", kind, definition, error), *along]


def main_rows(study: Study, kind: str, shots: int | None = None, definition: str | None = None) -> list[Retrieval]:
    """Retrievals of the study's first method."""
    return select(study.retrievals, kind, study.methods[0].name, shots, definition)


def used_shots(study: Study) -> list[int]:
    """Numbers of supports that were tried, one support first."""
    tried = {row.shots for row in study.retrievals if row.kind != "few-shot box"}
    return sorted(tried, key=lambda shots: (shots == 0, shots))


def summarized(rows: Sequence[Retrieval], value: Value, study: Study) -> Summary:
    """Summary of the rows that have a value, pooled as the protocol says."""
    values = np.array([value(row) for row in rows])
    known = np.isfinite(values)
    names = [row.name for row, keep in zip(rows, known, strict=True) if keep]
    return pooled(values[known], names, study.protocol.pooling)


def with_round_trip(rows: Sequence[Retrieval]) -> list[Retrieval]:
    """Those of the rows that have a round trip and an error: other methods have no round trip."""
    return [row for row in rows if np.isfinite(row.round_trip_mm) and np.isfinite(row.error_mm)]


def reliability_bins(rows: Sequence[Retrieval]) -> list[tuple[float, float, np.ndarray]]:
    """(low, high, real errors) of every bin of the round trip that holds anything."""
    trips, errors = np.array([(row.round_trip_mm, row.error_mm) for row in rows]).reshape(-1, 2).T
    pairs = list(zip(BINS_MM[:-1], BINS_MM[1:], strict=True))
    bins = [(low, high, errors[(trips >= low) & (trips < high)]) for low, high in pairs]
    return [(low, high, inside) for low, high, inside in bins if len(inside)]


def shots_text(shots: int) -> str:
    """How a number of supports is called."""
    return {0: "all supports", 1: "one support"}.get(shots, f"{shots} supports")
