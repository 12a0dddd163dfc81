"""Slicer's own files of points and boxes: markups (.mrk.json) and the point lists of older Slicers (.fcsv). RAS mm."""

import csv
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from APELocalizerLib.core.base.errors import AnnotationError
from APELocalizerLib.core.base.geometry import LPS, Box

UNITS_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "µm": 0.001, "μm": 0.001}
"""Unit of length of a markups file → mm."""

FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
SQUARE = 1e-3
"""Largest deviation of an ROI's axes from the anatomical ones (0.06 degrees): a box has no rotation."""


def parse_json(text: str, table: str, example: str) -> Any:
    """Content of a JSON text; raises `AnnotationError` for what is none, or names something twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None) if len(names) < 1000 else None
        if twice is not None or len(set(names)) < len(names):
            raise AnnotationError(f'{table} says "{twice or "something"}" twice. Remove one of them.')
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{table} {example}.") from error


def markup_points(text: str, table: str) -> Iterator[tuple[str, np.ndarray]]:
    """(name, position (3,) RAS mm) of every placed point of a .mrk.json file."""
    for markup in _markups(text, table):
        to_ras = _to_ras(markup, table)
        for number, point in enumerate(_list(markup.get("controlPoints", []), table), start=1):
            if not isinstance(point, dict):
                raise _no_markups(table)
            if point.get("positionStatus", "defined") == "defined":
                name = str(point.get("label") or point.get("id") or "").strip()
                if not name:
                    raise AnnotationError(f"{table}: point {number} has no name. Give it one.")
                yield name, _vector(point.get("position"), table) * to_ras


def markup_boxes(text: str, table: str) -> Iterator[tuple[str, Box]]:
    """(name, box) of every ROI of a .mrk.json file, named after its first point or itself."""
    for number, markup in enumerate(_markups(text, table), start=1):
        if markup.get("type") != "ROI":
            continue
        to_ras = _to_ras(markup, table)
        center, size = (_vector(markup.get(key), table) for key in ("center", "size"))
        axes = np.array([_number(value, table) for value in _list(markup.get("orientation", []), table)])
        labels = [point.get("label") for point in _list(markup.get("controlPoints", []), table) if point]
        name = str((labels or [None])[0] or markup.get("name") or f"ROI {number}").strip()
        if axes.size != 9 or markup.get("roiType", "Box") != "Box":
            raise _no_markups(table)
        turned = np.abs(axes.reshape(3, 3))
        if np.abs(turned - np.rint(turned)).max() > SQUARE or not np.allclose(np.rint(turned).sum(axis=0), 1):
            raise AnnotationError(f"{table}: the ROI {name} is rotated. Set it along the anatomical axes.")
        half = np.rint(turned) @ size * np.abs(to_ras) / 2
        yield name, Box(tuple(center * to_ras - half), tuple(center * to_ras + half))


def fcsv_points(text: str, table: str) -> Iterator[tuple[str, np.ndarray]]:
    """(name, position (3,) RAS mm) of every point of a .fcsv file, in its own coordinate system."""
    comments = [line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")]
    settings: dict[str, str] = {}
    for line in comments:
        key, is_setting, value = line.partition("=")
        if is_setting:
            settings[key.strip()] = value.strip()
    system = settings.get("CoordinateSystem", "")
    signs = {"0": np.ones(3), "RAS": np.ones(3), "1": LPS, "LPS": LPS}.get(system.upper())
    if signs is None:
        raise AnnotationError(
            f"{table} does not say whether its coordinates are RAS or LPS (CoordinateSystem). "
            "Load it in Slicer and save it as .mrk.json."
        )
    columns = [column.strip() for column in settings.get("columns", FCSV_COLUMNS).split(",")]
    if not {"x", "y", "z", "label"} <= set(columns):
        raise AnnotationError(f"{table} lacks the columns x, y, z or label. Load it in Slicer, save it as .mrk.json.")
    lines = [line for line in text.splitlines() if line.strip(" ,") and not line.startswith("#")]
    try:
        for cells in csv.reader(lines, strict=True):
            row = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
            if not row.get("label"):
                raise AnnotationError(f"{table} holds a landmark without a name. Give it one.")
            yield row["label"], _vector([row.get(axis, "") for axis in "xyz"], table) * signs
    except csv.Error as error:
        raise AnnotationError(f"{table} cannot be read ({error}). Load it in Slicer, save it as .mrk.json.") from error


def _markups(text: str, table: str) -> list[dict[str, Any]]:
    content = parse_json(text, table, "is not a Slicer markups file (.mrk.json)")
    markups = content.get("markups") if isinstance(content, dict) else None
    if not isinstance(markups, list) or not all(isinstance(markup, dict) for markup in markups):
        raise _no_markups(table)
    return markups


def _to_ras(markup: dict[str, Any], table: str) -> np.ndarray:
    """Factors (3,) that turn a markup's coordinates into RAS mm."""
    system = markup.get("coordinateSystem", "LPS")
    if system not in ("LPS", "RAS", 0, 1, "0", "1") or isinstance(system, bool):
        raise AnnotationError(f'{table} uses the coordinate system "{system}"; only LPS and RAS are known.')
    units = markup.get("coordinateUnits", "mm")
    units = units if isinstance(units, list) else [units] * 3
    scales = [UNITS_MM[unit] for unit in units if isinstance(unit, str) and unit in UNITS_MM]
    if len(scales) != 3 or len(units) != 3:
        raise AnnotationError(f"{table} measures in {', '.join(map(str, units))}; save it in mm.")
    return (np.ones(3) if system in ("RAS", 0, "0") else LPS) * np.array(scales)


def _no_markups(table: str) -> AnnotationError:
    return AnnotationError(f"{table} is not a Slicer markups file (.mrk.json).")


def _list(value: object, table: str) -> list:
    if not isinstance(value, list):
        raise _no_markups(table)
    return value


def _vector(value: object, table: str) -> np.ndarray:
    numbers = [_number(component, table) for component in _list(value, table)]
    if len(numbers) != 3:
        raise _no_markups(table)
    return np.array(numbers)


def _number(value: Any, table: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f'{table}: "{str(value)[:40]}" is not a number.') from error
    if not math.isfinite(number):
        raise AnnotationError(f'{table}: "{value}" is not a finite number.')
    return number
