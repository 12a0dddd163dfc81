"""Marks on one scan from files: named points and boxes, and the names of a label map's labels. RAS mm."""

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from APELocalizerLib.core.annotations.tables import BOX_COLUMNS, POINT_COLUMNS
from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import LPS, Box


def read_points(path: str | Path) -> dict[str, np.ndarray]:
    """Named points (3,) RAS mm from a Slicer markups file (.mrk.json) or a CSV with the columns name,r_mm,a_mm,s_mm.

    Raises `LearningError` naming what is wrong: a missing column, a value that is no number, a name given twice.
    """
    path = Path(path)
    text = _text(path, "points")
    points: dict[str, np.ndarray] = {}
    pairs = _markup_points(text, path.name) if path.suffix.lower() == ".json" else _csv_points(text, path.name)
    for name, position in pairs:
        if name in points:
            raise LearningError(f'{path.name} holds the landmark "{name}" twice. Rename or remove one of them.')
        points[name] = position
    if not points:
        raise LearningError(f"{path.name} holds no placed landmark.")
    return points


def read_boxes(path: str | Path) -> dict[str, Box]:
    """Named boxes from a CSV with the columns name,rmin,rmax,amin,amax,smin,smax (RAS mm); others are ignored."""
    path = Path(path)
    boxes: dict[str, Box] = {}
    for row in _rows(_text(path, "boxes"), BOX_COLUMNS, path.name):
        if row["name"] in boxes:
            raise LearningError(f'{path.name} holds the organ "{row["name"]}" twice. Rename or remove one of them.')
        low = tuple(_number(row[column], path.name) for column in ("rmin", "amin", "smin"))
        high = tuple(_number(row[column], path.name) for column in ("rmax", "amax", "smax"))
        try:
            boxes[row["name"]] = Box(low, high)
        except ValueError as error:
            raise LearningError(f'{path.name}: in the box of "{row["name"]}" a minimum exceeds its maximum.') from error
    return boxes


def read_labels(path: str | Path) -> dict[int, str]:
    """Label names of a segmentation from JSON such as {"1": "spleen"}."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {int(label): str(name) for label, name in content.items()}
    except FileNotFoundError as error:
        raise LearningError(f"The labels file {path} does not exist.") from error
    except (ValueError, AttributeError, OSError) as error:
        text = f'{path.name} must be JSON that maps label numbers to names, such as {{"1": "spleen"}}.'
        raise LearningError(text) from error


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise LearningError(f"The {what} file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LearningError(f"The {what} file {path.name} cannot be read as text.") from error


def _markup_points(text: str, where: str) -> Iterable[tuple[str, np.ndarray]]:
    try:
        for markup in json.loads(text)["markups"]:
            system = markup.get("coordinateSystem", "LPS")
            if system not in ("LPS", "RAS", 0, 1, "0", "1"):
                raise LearningError(f'{where} uses the coordinate system "{system}"; only LPS and RAS are known.')
            signs = np.ones(3) if system in ("RAS", 0, "0") else LPS
            for point in markup.get("controlPoints", []):
                if point.get("positionStatus", "defined") == "defined":
                    r, a, s = (_number(value, where) for value in point["position"])
                    yield str(point.get("label") or point["id"]), np.array([r, a, s]) * signs
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LearningError(f"{where} is not a Slicer markups file (.mrk.json).") from error


def _csv_points(text: str, where: str) -> Iterable[tuple[str, np.ndarray]]:
    for row in _rows(text, POINT_COLUMNS, where):
        if not row["name"].strip():
            raise LearningError(f"{where} holds a landmark without a name. Give it one.")
        yield row["name"], np.array([_number(row[column], where) for column in POINT_COLUMNS[1:]])


def _rows(text: str, columns: tuple[str, ...], where: str) -> Iterable[dict[str, str]]:
    reader = csv.DictReader(text.splitlines())
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise LearningError(f"{where} lacks the column(s) {', '.join(missing)}; it needs {','.join(columns)}.")
    return reader


def _number(value: object, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise LearningError(f'{where}: "{value}" is not a number.') from error
    if not math.isfinite(number):
        raise LearningError(f'{where}: "{value}" is not a finite number.')
    return number
