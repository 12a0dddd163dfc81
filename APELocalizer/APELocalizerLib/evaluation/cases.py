"""Annotated scans for an evaluation: points and boxes from CSV files or label maps, in RAS mm.

`landmarks.csv`: case,name,r_mm,a_mm,s_mm[,uncertainty_mm]; `boxes.csv`: case,name,rmin,rmax,amin,amax,smin,smax
[,uncertainty_mm,cut_sides]. The scan of a case is `<case>.nii.gz` (or .nii, .nrrd, .mha) in the scans' folder. A
missing row says nothing: the annotator may have skipped a structure that is visible.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from APELocalizerLib.core.errors import APELocalizerError
from APELocalizerLib.core.geometry import Box

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


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

    Raises `EvaluationError` if none remains or an id in `only` has no annotated scan.
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

    for row in _rows(landmarks_csv):
        found = case(row["case"])
        if found is not None:
            found.points[row["name"]] = np.array([float(row[c]) for c in ("r_mm", "a_mm", "s_mm")])
            found.uncertainty_mm[row["name"]] = float(row.get("uncertainty_mm") or 0)
    for row in _rows(boxes_csv):
        found = case(row["case"])
        if found is not None:
            low, high = ([float(row[axis + end]) for axis in "ras"] for end in ("min", "max"))
            found.boxes[row["name"]] = Box(tuple(low), tuple(high))
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


def _rows(path: str | Path | None) -> list[dict[str, str]]:
    if path is None:
        return []
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise EvaluationError(f"The annotations {path} cannot be read ({error}).") from error
