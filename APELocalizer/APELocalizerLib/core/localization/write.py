"""Results and inputs as files: Slicer markups (.mrk.json), CSV tables, label names.

All coordinates in the CSV files are RAS mm, said in the column names. Markups files say their coordinate system
themselves; they are written in LPS, Slicer's default on disk.
"""

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.localization.localize import Localization, LocatedOrgan, LocatedPoint

MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
RESULT_COLUMNS = ("name", "kind", "status", "r_mm", "a_mm", "s_mm", "round_trip_mm", "distance")
BOX_COLUMNS = (
    *("name", "status", "rmin", "rmax", "amin", "amax", "smin", "smax"),
    *("alpha", "volume_ratio", "round_trip_mm"),
)
POINT_COLUMNS = ("name", "r_mm", "a_mm", "s_mm")
LPS = np.array([-1.0, -1.0, 1.0])


def write_results(localization: Localization, folder: str | Path) -> list[Path]:
    """Write landmarks.mrk.json, boxes.csv, rois/*.mrk.json and results.csv; returns the files written.

    The boxes of an earlier run in the same folder are removed: an organ that is not found now must not seem to be.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "landmarks.mrk.json", folder / "results.csv", folder / "boxes.csv"]
    _write_json(files[0], points_markup(localization))
    _write_csv(files[1], RESULT_COLUMNS, map(_result_row, (*localization.points, *localization.organs)))
    _write_csv(files[2], BOX_COLUMNS, map(_box_row, localization.organs))
    for earlier in (folder / "rois").glob("*.mrk.json"):
        earlier.unlink()
    for organ, name in zip(localization.organs, _file_names(o.name for o in localization.organs), strict=True):
        if organ.box is not None:
            files.append(folder / "rois" / f"{name}.mrk.json")
            files[-1].parent.mkdir(exist_ok=True)
            _write_json(files[-1], roi_markup(organ))
    return files


def confidence_text(result: LocatedPoint | LocatedOrgan) -> str:
    """One line for the point's description: status, round-trip error and, if not found, why."""
    if result.found:
        return f"found, round trip {result.round_trip_mm:.1f} mm"
    return f"not found: {result.reason}"


def points_markup(localization: Localization) -> dict:
    """Markups point list of all landmarks; those not found have the position status "missing"."""
    points = []
    for number, point in enumerate(localization.points, start=1):
        points.append(
            {
                "id": str(number),
                "label": point.name,
                "description": confidence_text(point),
                "position": (np.array(point.candidate_ras) * LPS).tolist(),
                "positionStatus": "defined" if point.found else "missing",
                "locked": True,
            }
        )
    return _markups("Fiducial", {"controlPoints": points})


def roi_markup(organ: LocatedOrgan) -> dict:
    """Markups ROI of a found organ's box."""
    center = (organ.box.center * LPS).tolist()
    return _markups(
        "ROI",
        {
            "roiType": "Box",
            "center": center,
            "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
            "size": organ.box.size.tolist(),
            "insideOut": False,
            "controlPoints": [
                {
                    "id": "1",
                    "label": organ.name,
                    "description": confidence_text(organ),
                    "position": center,
                    "positionStatus": "defined",
                }
            ],
        },
    )


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
    for row in _rows(_text(path, "boxes"), ("name", *BOX_COLUMNS[2:8]), path.name):
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


def safe_name(name: str) -> str:
    """A file name for a landmark's or organ's name, on every operating system."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".") or "unnamed"


def _file_names(names: Iterable[str]) -> list[str]:
    """A file name for each name; no two alike, even where upper and lower case are the same."""
    taken: set[str] = set()
    found = []
    for name in names:
        safe, number = safe_name(name), 1
        while safe.lower() in taken:
            number += 1
            safe = f"{safe_name(name)}_{number}"
        taken.add(safe.lower())
        found.append(safe)
    return found


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise LearningError(f"The {what} file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LearningError(f"The {what} file {path.name} cannot be read as text.") from error


def _markups(kind: str, content: dict) -> dict:
    return {
        "@schema": MARKUPS_SCHEMA,
        "markups": [{"type": kind, "coordinateSystem": "LPS", "coordinateUnits": "mm", "locked": True, **content}],
    }


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


def _result_row(result: LocatedPoint | LocatedOrgan) -> list:
    organ = isinstance(result, LocatedOrgan)
    position = result.center_ras if organ else result.position_ras
    coordinates = ["", "", ""] if position is None else [f"{x:.3f}" for x in position]
    kind = "organ" if organ else "landmark"
    return [result.name, kind, result.status, *coordinates, f"{result.round_trip_mm:.3f}", f"{result.distance:.3f}"]


def _box_row(organ: LocatedOrgan) -> list:
    walls, ratio = [""] * 6, ""
    if organ.box is not None:
        walls = [f"{x:.3f}" for pair in zip(organ.box.minimum, organ.box.maximum, strict=True) for x in pair]
        ratio = f"{organ.volume_ratio:.3f}"
    return [organ.name, organ.status, *walls, f"{organ.alpha:.3f}", ratio, f"{organ.round_trip_mm:.3f}"]


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
