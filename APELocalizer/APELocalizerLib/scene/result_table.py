"""A `Localization` as the rows of a table node: texts with one decimal, empty where nothing is known.

Made for reading; the command line's results.csv is for computing.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import vtk

from APELocalizerLib.core.library.spoken_names import spoken_names
from APELocalizerLib.scene.result_rows import AXES, EXPECTED_ERROR, GRADE, LIBRARY_NAME, RADIUS_90, ROUND_TRIP

if TYPE_CHECKING:
    from APELocalizerLib.core.localization.answers import Localization, LocatedOrgan, LocatedPoint

TABLE_COLUMNS = (
    "Name", "Kind", "Status", *AXES, ROUND_TRIP, "Distance", "Code", "Note", LIBRARY_NAME,
    GRADE, EXPECTED_ERROR, RADIUS_90,
)  # fmt: skip
"""Columns of the result table. "Name" is the name as it is said, "Library name" the one in files."""

COLUMN_TITLES = {ROUND_TRIP: "Round trip (mm), a consistency check"}
"""Titles shown instead of a column's name."""

COLUMN_DESCRIPTIONS = {
    AXES[0]: "Millimeters toward the patient's right (RAS).",
    AXES[1]: "Millimeters toward the front (RAS).",
    AXES[2]: "Millimeters toward the head (RAS).",
    ROUND_TRIP: "Consistency check: distance in mm between the click on the support and where the found point maps "
    "back to. Small is necessary, not sufficient; it is not the error.",
    GRADE: "sure: expected error small enough to use after a glance. check: verify in the slices. not found: outside "
    "the scan, or no consistent match.",
    EXPECTED_ERROR: "Typical distance from the true place, in mm: half of such answers are closer, half are farther. "
    "Measured on patients who were not used for the calibration. Empty where nothing is known.",
    RADIUS_90: "The true place lies within this distance, in mm, in 9 of 10 such answers.",
    "Distance": "Distance in anatomical coordinates between the found point and the learned one.",
    LIBRARY_NAME: "Name in the landmark library and in result files.",
}


def fill_table(node, localization: "Localization") -> None:
    """Fill a table node with a localization, and lock it."""
    point_labels = spoken_names(point.name for point in localization.points)
    organ_labels = spoken_names(organ.name for organ in localization.organs)
    rows = [_point_row(point, point_labels[point.name]) for point in localization.points]
    rows += [_organ_row(organ, organ_labels[organ.name]) for organ in localization.organs]
    table = vtk.vtkTable()
    for column, title in enumerate(TABLE_COLUMNS):
        values = vtk.vtkStringArray()
        values.SetName(title)
        for row in rows:
            values.InsertNextValue(row[column])
        table.AddColumn(values)
    node.SetAndObserveTable(table)
    for title in TABLE_COLUMNS:
        node.SetColumnTitle(title, COLUMN_TITLES.get(title, title))
        node.SetColumnDescription(title, COLUMN_DESCRIPTIONS.get(title, ""))
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)


def _point_row(point: "LocatedPoint", label: str) -> tuple[str, ...]:
    position = point.position_ras if point.found else None
    return (label, "landmark", *_row_end(point, position, point.reason), point.name, *_certainty(point))


def _organ_row(organ: "LocatedOrgan", label: str) -> tuple[str, ...]:
    position = organ.center_ras if organ.found else None
    note = organ_note(organ) if organ.found else organ.reason
    return (label, "organ", *_row_end(organ, position, note), organ.name, *_certainty(organ))


def _certainty(result: "LocatedPoint | LocatedOrgan") -> tuple[str, str, str]:
    """Grade, expected error and the radius of 9 in 10 answers, as texts; empty where nothing is known of them."""
    return result.grade, _decimal(result.expected_error_mm), _decimal(result.radius_90_mm)


def _row_end(result: "LocatedPoint | LocatedOrgan", position: Sequence[float] | None, note: str) -> tuple[str, ...]:
    code = f"{result.code.scheme} {result.code.value} {result.code.meaning}" if result.code else ""
    numbers = (*((math.nan,) * 3 if position is None else position), result.round_trip_mm, result.distance)
    return ("found" if result.found else "not found", *(_decimal(number) for number in numbers), code, note)


def _decimal(number: float) -> str:
    return f"{number:.1f}" if math.isfinite(number) else ""


def organ_note(organ: "LocatedOrgan") -> str:
    """How sure a box is, its size in mm, and how many times larger the scan is."""
    from APELocalizerLib.core.localization.answers import confidence_text  # not at file scope: it loads torch

    text = confidence_text(organ)
    if not organ.found or organ.box is None:
        return text
    size = " × ".join(f"{length:.0f}" for length in organ.box.size)
    return f"{text}, box {size} mm, volume ratio {organ.volume_ratio:.2f}"
