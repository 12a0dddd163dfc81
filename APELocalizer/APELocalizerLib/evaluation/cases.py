"""Annotated scans for an evaluation: points and boxes from CSV files or label maps, in RAS mm.

`landmarks.csv`: case,name,r_mm,a_mm,s_mm[,uncertainty_mm]; `boxes.csv`: case,name,rmin,rmax,amin,amax,smin,smax
[,uncertainty_mm,cut_sides]. The scan of a case is `<case>.nii.gz` (or .nii, .nrrd, .mha) in the scans' folder. A
missing row says nothing: the annotator may have skipped a structure that is visible.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from APELocalizerLib.core.errors import APELocalizerError
from APELocalizerLib.core.geometry import Box

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
POINT_COLUMNS = ("case", "name", "r_mm", "a_mm", "s_mm")
BOX_COLUMNS = ("case", "name", "rmin", "rmax", "amin", "amax", "smin", "smax")


class EvaluationError(APELocalizerError):
    """The annotations and scans do not allow the evaluation."""


@dataclass(frozen=True)
class Case:
    """One annotated scan. `cut` names the sides ("smin", ...) of a box that the field of view cuts."""

    id: str
    path: Path
    points: dict[str, np.ndarray] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)
    cut: dict[str, tuple[str, ...]] = field(default_factory=dict)
    uncertainty_mm: dict[str, float] = field(default_factory=dict)

    @property
    def whole_boxes(self) -> dict[str, Box]:
        """Boxes of organs that the field of view shows whole."""
        return {name: box for name, box in self.boxes.items() if not self.cut.get(name)}


def read_cases(
    scans_folder: str | Path,
    landmarks_csv: str | Path | None = None,
    boxes_csv: str | Path | None = None,
    only: Iterable[str] | None = None,
) -> list[Case]:
    """Cases that have a scan and at least one annotation, sorted by id; `only` keeps the ids named.

    Raises `EvaluationError` for a table that lacks a column or holds something other than a number or a box, if no case
    remains, and if an id in `only` has no annotated scan.
    """
    folder = Path(scans_folder)
    cases: dict[str, Case] = {}

    def case(name: str) -> Case | None:
        if name not in cases:
            path = find_scan(folder, name)
            if path is None:
                return None
            cases[name] = Case(name, path)
        return cases[name]

    for row in _rows(landmarks_csv, POINT_COLUMNS):
        found = case(row["case"])
        if found is not None:
            found.points[row["name"]] = np.array(_numbers(row, POINT_COLUMNS[2:], landmarks_csv))
            given = ["uncertainty_mm"] if row.get("uncertainty_mm") else []
            found.uncertainty_mm[row["name"]] = sum(_numbers(row, given, landmarks_csv))
    for row in _rows(boxes_csv, BOX_COLUMNS):
        found = case(row["case"])
        if found is not None:
            found.boxes[row["name"]] = _box(row, boxes_csv)
            found.cut[row["name"]] = tuple(side for side in (row.get("cut_sides") or "").split(";") if side)
    if only is not None:
        wanted = list(only)
        missing = [name for name in wanted if name not in cases]
        if missing:
            raise EvaluationError(f"There is no annotated scan for: {', '.join(missing)}.")
        cases = {name: cases[name] for name in wanted}
    if not cases:
        raise EvaluationError(f"No annotated scan was found in {folder}.")
    return [cases[name] for name in sorted(cases)]


def find_scan(folder: Path, name: str) -> Path | None:
    """File of the scan `name` in the folder, or None."""
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    return None


def _box(row: dict[str, str], path: str | Path) -> Box:
    sides = _numbers(row, BOX_COLUMNS[2:], path)
    try:
        return Box(tuple(sides[::2]), tuple(sides[1::2]))
    except ValueError as error:
        raise EvaluationError(
            f"{Path(path).name}: in the box {row['name']} of {row['case']} a minimum exceeds its maximum. Correct it."
        ) from error


def _numbers(row: dict[str, str], columns: Iterable[str], path: str | Path) -> list[float]:
    """Numbers of a row; raises `EvaluationError` naming the row and the column that holds none."""
    values = []
    for column in columns:
        try:
            values.append(float(row[column]))
        except (TypeError, ValueError):
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise EvaluationError(
                f'{Path(path).name}: {row["name"]} of {row["case"]} has no number in the column {column}, '
                f'but "{row[column]}". Correct it.'
            )
    return values


def _rows(path: str | Path | None, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV file that has all the columns named; none without a path."""
    if path is None:
        return []
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, header = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"The annotations {path} cannot be read ({error}).") from error
    missing = [column for column in columns if column not in header]
    if missing:
        raise EvaluationError(
            f"{Path(path).name} lacks the column(s) {', '.join(missing)}; it needs {','.join(columns)}."
        )
    return rows
