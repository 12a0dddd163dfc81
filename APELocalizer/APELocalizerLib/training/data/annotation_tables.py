"""Tables of landmarks and boxes as observations of scans for the average patient, read by the core's one reader."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from APELocalizerLib.core.annotations.cases import read_annotations
from APELocalizerLib.core.annotations.tables import BOX_COLUMNS, POINT_COLUMNS, Row
from APELocalizerLib.training.data.average_patient import Observation, box_observations, point_observations

UNCERTAINTY_MM = 5.0
"""Of an annotation that does not say how certain it is."""

BOX_SIDE_MM = 6.0
"""Added in quadrature to the uncertainty of a box: its sides are seen less well than a landmark."""

PointsOfCase = dict[str, tuple[np.ndarray, float]]
"""Landmarks of a scan by name: RAS mm (3,) and uncertainty in mm."""


def read_landmarks(path: Path) -> dict[str, PointsOfCase]:
    """Landmarks of a table by case and name; the column uncertainty_mm may be missing.

    Raises `AnnotationError` naming the line that is wrong, or that annotates a landmark of a scan a second time.
    """
    cases: dict[str, PointsOfCase] = defaultdict(dict)
    for row in read_annotations(path, ("case", *POINT_COLUMNS)):
        cases[row["case"]][row.name] = (np.array(row.numbers(POINT_COLUMNS[1:])), _uncertainty(row))
    return dict(cases)


def read_box_observations(path: Path) -> dict[str, list[Observation]]:
    """Observations of the boxes of a table, by case; the columns uncertainty_mm and cut_sides may be missing.

    Raises as `read_landmarks` does.
    """
    cases: dict[str, list[Observation]] = defaultdict(list)
    for row in read_annotations(path, ("case", *BOX_COLUMNS)):
        box, sigma = row.box, float(np.hypot(_uncertainty(row), BOX_SIDE_MM))
        cases[row["case"]] += box_observations(row.name, box.minimum, box.maximum, sigma, row.cut_sides)
    return dict(cases)


def annotation_observations(folder: Path) -> dict[str, list[Observation]]:
    """All observations of landmarks.csv and boxes.csv in a folder, by case; raises as `read_landmarks` does."""
    cases: dict[str, list[Observation]] = defaultdict(list)
    for case, points in read_landmarks(folder / "landmarks.csv").items():
        for name, (point, sigma) in points.items():
            cases[case] += point_observations(name, point, sigma)
    for case, sides in read_box_observations(folder / "boxes.csv").items():
        cases[case] += sides
    return dict(cases)


def _uncertainty(row: Row) -> float:
    return row.uncertainty_mm if row.get("uncertainty_mm") else UNCERTAINTY_MM
