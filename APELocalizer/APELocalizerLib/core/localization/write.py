"""Results as files: Slicer markups (.mrk.json) and CSV tables.

All coordinates in the CSV files are RAS mm, said in the column names. Markups files say their coordinate system
themselves; they are written in LPS, Slicer's default on disk.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from APELocalizerLib.core.base.file_names import distinct, shortened, unreserved
from APELocalizerLib.core.base.geometry import LPS, Box
from APELocalizerLib.core.localization.answers import Localization, LocatedOrgan, LocatedPoint, confidence_text

if TYPE_CHECKING:  # with it comes PyTorch
    from APELocalizerLib.core.localization.correspondence import Counterparts

MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
RESULT_COLUMNS = (
    *("name", "kind", "status", "r_mm", "a_mm", "s_mm", "round_trip_mm", "distance"),
    *("expected_error_mm", "radius_90_mm", "grade", "reason", "scan"),
)
BOX_COLUMNS = (
    *("name", "status", "rmin", "rmax", "amin", "amax", "smin", "smax"),
    *("alpha", "volume_ratio", "round_trip_mm"),
)


LONGEST_FILE_NAME = 200
"""Bytes of a file's name without its ending; no system takes more than 255 with it."""


def write_results(localization: Localization, folder: str | Path) -> list[Path]:
    """Write landmarks.mrk.json, boxes.csv, rois/*.mrk.json and results.csv; returns the files written.

    A box that an earlier run has written of an organ that is not found now is removed: it must not seem to be. Other
    files stay.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "landmarks.mrk.json", folder / "results.csv", folder / "boxes.csv"]
    _write_json(files[0], points_markup(localization))
    rows = [_result_row(result, localization.scan_name) for result in localization.results]
    _write_csv(files[1], RESULT_COLUMNS, rows)
    _write_csv(files[2], BOX_COLUMNS, map(_box_row, localization.organs))
    names = distinct((safe_name(organ.name) for organ in localization.organs), "_")
    for organ, name in zip(localization.organs, names, strict=True):
        file = folder / "rois" / f"{name}.mrk.json"
        if organ.box is None:
            file.unlink(missing_ok=True)
            continue
        files.append(file)
        file.parent.mkdir(exist_ok=True)
        _write_json(file, roi_markup(organ.name, organ.box, confidence_text(organ)))
    return files


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


def carried_markup_text(names: Sequence[str], carried: "Counterparts") -> str:
    """Markups point list, as text, of named points that were carried to another scan; those out of view are missing."""
    points = []
    for number, name in enumerate(names):
        shown = bool(carried.in_view[number])
        position = carried.positions_ras[number] * LPS if shown else np.zeros(3)
        points.append(
            {
                "id": str(number + 1),
                "label": name,
                "description": f"within {carried.radius_90_mm[number]:.0f} mm in 9 of 10" if shown else "not in view",
                "position": position.tolist(),
                "positionStatus": "defined" if shown else "missing",
            }
        )
    return json.dumps(_markups("Fiducial", {"controlPoints": points, "locked": False}), indent=1)


def roi_markup(name: str, box: Box, description: str) -> dict:
    """Markups ROI of an organ's box."""
    center = (box.center * LPS).tolist()
    return _markups(
        "ROI",
        {
            "roiType": "Box",
            "center": center,
            "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
            "size": box.size.tolist(),
            "insideOut": False,
            "controlPoints": [
                {
                    "id": "1",
                    "label": name,
                    "description": description,
                    "position": center,
                    "positionStatus": "defined",
                }
            ],
        },
    )


def safe_name(name: str) -> str:
    """A file name for a landmark's or organ's name, on every operating system."""
    letters = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    return unreserved(shortened(letters, LONGEST_FILE_NAME).strip(".") or "unnamed")


def _markups(kind: str, content: dict) -> dict:
    return {
        "@schema": MARKUPS_SCHEMA,
        "markups": [{"type": kind, "coordinateSystem": "LPS", "coordinateUnits": "mm", "locked": True, **content}],
    }


def _result_row(result: LocatedPoint | LocatedOrgan, scan_name: str) -> list:
    if isinstance(result, LocatedOrgan):
        kind, position = "organ", result.center_ras
    else:
        kind, position = "landmark", result.position_ras
    coordinates = ["", "", ""] if position is None else [f"{x:.3f}" for x in position]
    measures = [f"{result.round_trip_mm:.3f}", f"{result.distance:.3f}"]
    errors = [f"{mm:.1f}" if np.isfinite(mm) else "" for mm in (result.expected_error_mm, result.radius_90_mm)]
    row = [result.name, kind, result.status, *coordinates, *measures, *errors]
    return [*row, result.grade, result.reason, scan_name]


def _box_row(organ: LocatedOrgan) -> list:
    sides, ratio = [""] * 6, ""
    if organ.box is not None:
        sides = [f"{x:.3f}" for pair in zip(organ.box.minimum, organ.box.maximum, strict=True) for x in pair]
        ratio = f"{organ.volume_ratio:.3f}"
    return [organ.name, organ.status, *sides, f"{organ.alpha:.3f}", ratio, f"{organ.round_trip_mm:.3f}"]


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
