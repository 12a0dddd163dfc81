"""Annotation tables: CSV files whose errors are told with the table, the row and the column."""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from APELocalizerLib.core.base.errors import EvaluationError
from APELocalizerLib.core.base.geometry import Box

POINT_COLUMNS = ("name", "r_mm", "a_mm", "s_mm")
BOX_COLUMNS = ("name", "rmin", "rmax", "amin", "amax", "smin", "smax")


def read_rows(path: str | Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a CSV file with all the columns named, "" where a row ends early; raises `EvaluationError` otherwise."""
    columns = tuple(columns)
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows, header = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"The annotations {path} cannot be read ({error}).") from error
    missing = [column for column in columns if column not in header]
    if missing:
        raise EvaluationError(
            f"{Path(path).name} lacks the column(s) {', '.join(missing)}; it needs {','.join(columns)}."
        )
    return rows


def name_of(row: Mapping[str, str], path: str | Path, of: str) -> str:
    """Name in a row of the case `of`; raises `EvaluationError` if there is none."""
    if not row["name"].strip():
        raise EvaluationError(f"{Path(path).name}: a row of {of} names no landmark or organ. Complete or delete it.")
    return row["name"]


def numbers(row: Mapping[str, str], columns: Iterable[str], path: str | Path, of: str) -> list[float]:
    """Numbers of a row; raises `EvaluationError` naming the row (of the case `of`) and the column that holds none."""
    values = []
    for column in columns:
        try:
            values.append(float(row[column]))
        except (TypeError, ValueError):
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise EvaluationError(
                f"{Path(path).name}: {row['name']} of {of} has no number in the column {column}, "
                f'but "{row[column]}". Correct it.'
            )
    return values


def uncertainty(row: Mapping[str, str], path: str | Path, of: str) -> float:
    """One sigma of a row in mm; 0 where the table does not say."""
    return sum(numbers(row, ["uncertainty_mm"], path, of)) if row.get("uncertainty_mm") else 0.0


def box_of(row: Mapping[str, str], path: str | Path, of: str) -> Box:
    """Box of a row, RAS mm; raises `EvaluationError` if it is none."""
    sides = numbers(row, BOX_COLUMNS[1:], path, of)
    try:
        return Box(tuple(sides[::2]), tuple(sides[1::2]))
    except ValueError as error:
        raise EvaluationError(
            f"{Path(path).name}: in the box {row['name']} of {of} a minimum exceeds its maximum. Correct it."
        ) from error


def cut_sides(row: Mapping[str, str], path: str | Path, of: str) -> tuple[str, ...]:
    """Sides ("smin", ...) that the field of view cuts, from the optional column cut_sides, separated by ";"."""
    sides = tuple(side.strip() for side in (row.get("cut_sides") or "").split(";") if side.strip())
    wrong = [side for side in sides if side not in BOX_COLUMNS[1:]]
    if wrong:
        raise EvaluationError(
            f'{Path(path).name}: {row["name"]} of {of} has the cut side "{wrong[0]}". '
            f"Write one or more of {', '.join(BOX_COLUMNS[1:])}, separated by semicolons."
        )
    return sides
