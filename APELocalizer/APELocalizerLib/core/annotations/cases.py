"""Annotated scans for an evaluation: points and boxes from CSV files, organs from label maps, in RAS mm.

`landmarks.csv`: case,name,r_mm,a_mm,s_mm[,uncertainty_mm,patient]; `boxes.csv`: case,name,rmin,rmax,amin,amax,smin,smax
[,uncertainty_mm,cut_sides,patient]. The scan of a case is `<case>.nii.gz` (or .nii, .nrrd, .mha; or `<case>_ct.…`) in
the scans' folder. A missing row says nothing: the annotator may have skipped a structure that is visible. Cases of one
patient never support each other: name the patient in the column `patient`, in a table `patients.csv` (case,patient) in
the scans' folder, or see `with_patients`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from APELocalizerLib.core.annotations.tables import BOX_COLUMNS, POINT_COLUMNS, Row, read_rows
from APELocalizerLib.core.base.errors import AnnotationError, EvaluationError
from APELocalizerLib.core.base.geometry import Box

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
TABLE_FOLDERS = ("", "annotations")

__all__ = ["Case", "EvaluationError", "chosen", "find_scan", "read_cases", "with_patients"]


@dataclass(frozen=True)
class Case:
    """One annotated scan. `cut` names the sides ("smin", ...) of a box that the field of view cuts.

    Uncertainties are one sigma in mm, 0 where unknown. `label_map` is a file of organ labels on any grid, and
    `label_names` says which label is which organ. `patient` is empty where nothing else is known than the case's id.
    """

    id: str
    path: Path
    points: dict[str, np.ndarray] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)
    cut: dict[str, tuple[str, ...]] = field(default_factory=dict)
    uncertainty_mm: dict[str, float] = field(default_factory=dict)
    box_uncertainty_mm: dict[str, float] = field(default_factory=dict)
    label_map: Path | None = None
    label_names: dict[int, str] = field(default_factory=dict)
    patient: str = ""

    @property
    def whole_boxes(self) -> dict[str, Box]:
        """Boxes of organs that the field of view shows whole."""
        return {name: box for name, box in self.boxes.items() if not self.cut.get(name)}

    @property
    def person(self) -> str:
        """Whose scan it is: the patient, or the case's id."""
        return self.patient or self.id

    # Filling, while the tables are read -------------------------------------------------------------------------------

    def add_point(self, row: Row) -> None:
        """Take over one row of a table of points."""
        self.points[row.name] = np.array(row.numbers(POINT_COLUMNS[1:]))
        self.uncertainty_mm[row.name] = row.uncertainty_mm

    def add_box(self, row: Row) -> None:
        """Take over one row of a table of boxes."""
        self.boxes[row.name] = row.box
        self.cut[row.name] = row.cut_sides
        self.box_uncertainty_mm[row.name] = row.uncertainty_mm


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
    add_tables(cases, lambda name: find_scan(folder, name), landmarks_csv, boxes_csv)
    add_patients(cases, table_of(folder, "patients.csv"))
    if only is None and not cases:
        raise EvaluationError(f"No annotated scan was found in {folder}.")
    return sorted(chosen(cases, only), key=lambda case: case.id)


def add_tables(
    cases: dict[str, Case],
    scan_of: Callable[[str], Path | None],
    landmarks_csv: str | Path | None = None,
    boxes_csv: str | Path | None = None,
) -> None:
    """Put the rows of the two tables into `cases`; `scan_of(name)` gives a case's scan, or None (rows are skipped)."""
    for table, columns, add in ((landmarks_csv, POINT_COLUMNS, Case.add_point), (boxes_csv, BOX_COLUMNS, Case.add_box)):
        for row in read_annotations(table, ("case", *columns)) if table is not None else ():
            name = row["case"]
            if name not in cases:
                path = scan_of(name)
                if path is None:
                    continue
                cases[name] = Case(name, path)
            _set_patient(cases, row)
            add(cases[name], row)


def read_annotations(table: str | Path, columns: Iterable[str]) -> Iterator[Row]:
    """Rows of a table that annotates everything once; raises `AnnotationError` for a name that a scan has twice."""
    seen: dict[tuple[str | None, str], str] = {}
    for row in read_rows(table, columns):
        mark = (row.get("case"), row.name)
        if mark in seen:
            of = f" of {row['case']}" if row.get("case") else ""
            raise AnnotationError(f"{row.place}: {row.name}{of} stands there twice. Remove one of the two rows.")
        seen[mark] = row.place
        yield row


def add_patients(cases: dict[str, Case], path: str | Path | None) -> None:
    """Give the cases the patients that the table (case,patient) says; without a table nothing changes."""
    for row in read_rows(path, ("case", "patient")) if path else ():
        if row["case"] in cases:
            _set_patient(cases, row)


def _set_patient(cases: dict[str, Case], row: Row) -> None:
    patient, case = row.get("patient", ""), cases[row["case"]]
    if not patient or patient == case.patient:
        return
    if case.patient:
        raise AnnotationError(
            f"{row.place}: case {case.id} is listed under two patients ({case.patient} and {patient}). Correct one."
        )
    cases[case.id] = replace(case, patient=patient)


def table_of(folder: Path, name: str) -> Path | None:
    """File of the table `name` of a folder of scans, or None."""
    return next((folder / sub / name for sub in TABLE_FOLDERS if (folder / sub / name).is_file()), None)


def chosen(cases: Mapping[str, Case], names: Iterable[str] | None) -> list[Case]:
    """The cases named, each once (all without names); raises `EvaluationError` naming those without annotated scan."""
    wanted = list(cases if names is None else dict.fromkeys(names))
    missing = [name for name in wanted if name not in cases]
    if missing:
        raise EvaluationError(f"There is no annotated scan for: {', '.join(missing)}.")
    return [cases[name] for name in wanted]


def with_patients(cases: Sequence[Case], prefixes: Sequence[str] = ()) -> list[Case]:
    """The cases with their patient; those whose ids begin with one of the prefixes are one patient's."""
    grouped = []
    for case in cases:
        prefix = next((prefix for prefix in prefixes if case.id.startswith(prefix)), "")
        grouped.append(replace(case, patient=prefix) if prefix else case)
    return grouped


def find_scan(folder: Path, name: str) -> Path | None:
    """File of the scan `name` in the folder, or None."""
    for end in ("", "_ct"):
        for suffix in SUFFIXES:
            if (folder / f"{name}{end}{suffix}").is_file():
                return folder / f"{name}{end}{suffix}"
    return None
