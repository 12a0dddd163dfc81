"""A folder of annotated scans, read as a whole.

Scans and label maps lie in the folder itself or in its subfolders `train`, `val` and `scans`, label maps also in
`labels`; the tables lie in the folder itself or in `annotations`. Everything but the scans is optional, and may be
mixed:

    <case>.nii.gz (or <case>_ct.nii.gz)           the scan; also .nii, .nrrd, .mha
    <case>_seg.nii.gz and <case>_labels.json      organs as a label map, and the labels' names {"1": "spleen"}
    <case>_points.csv, <case>_boxes.csv           name,r_mm,a_mm,s_mm and name,rmin,…,smax of this scan alone
    landmarks.csv, boxes.csv                      the same for many scans, with a first column `case`
    patients.csv                                  case,patient: scans of one patient never support each other
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from APELocalizerLib.core.annotations.cases import (
    SUFFIXES,
    Case,
    EvaluationError,
    add_patients,
    add_tables,
    find_scan,
    read_annotations,
    table_of,
)
from APELocalizerLib.core.annotations.marks import read_labels
from APELocalizerLib.core.annotations.tables import BOX_COLUMNS, POINT_COLUMNS

SCAN_FOLDERS = ("", "scans", "train", "val")
LABEL_FOLDERS = (*SCAN_FOLDERS, "labels")


def read_data_folder(
    folders: Sequence[str | Path],
    landmarks_csv: str | Path | None = None,
    boxes_csv: str | Path | None = None,
) -> dict[str, Case]:
    """Every annotated scan of the folders by its id, sorted; the tables given are read as well as those found there.

    Raises `EvaluationError` for a folder that does not exist, damaged annotations, one id for two scans, and if there
    is no annotated scan.
    """
    roots = [Path(folder) for folder in folders]
    for root in roots:
        if not root.is_dir():
            raise EvaluationError(f"The folder {root} does not exist.")
    scans = _scans(roots)
    cases: dict[str, Case] = {}
    for name, path in scans.items():
        case = _with_label_map(Case(name, path), roots)
        _add_own_tables(case)
        if case.label_map or case.points or case.boxes:
            cases[name] = case
    for root in roots:
        add_tables(cases, scans.get, *(table_of(root, table) for table in ("landmarks.csv", "boxes.csv")))
    add_tables(cases, scans.get, landmarks_csv, boxes_csv)
    for root in roots:
        add_patients(cases, table_of(root, "patients.csv"))
    if not cases:
        raise EvaluationError(f"No annotated scan was found in {', '.join(map(str, roots))}.")
    return dict(sorted(cases.items()))


def _scans(roots: Sequence[Path]) -> dict[str, Path]:
    """Scan files by case id."""
    scans: dict[str, Path] = {}
    for folder in (root / sub for root in roots for sub in SCAN_FOLDERS):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            suffix = next((ending for ending in SUFFIXES if path.name.endswith(ending)), None)
            if suffix is None or not path.is_file():
                continue
            name = path.name[: -len(suffix)]
            if name.endswith("_seg"):
                continue
            name = name.removesuffix("_ct")
            if name in scans and scans[name].resolve() != path.resolve():
                raise EvaluationError(f"There are two scans called {name}: {scans[name]} and {path}. Rename one.")
            scans[name] = path
    return scans


def _with_label_map(case: Case, roots: Sequence[Path]) -> Case:
    folders = [case.path.parent, *(root / sub for root in roots for sub in LABEL_FOLDERS)]
    for folder in folders:
        path, names = find_scan(folder, f"{case.id}_seg"), folder / f"{case.id}_labels.json"
        if path is None:
            continue
        if not names.is_file():
            raise EvaluationError(f"{path.name} needs {names.name} beside it, which names its labels.")
        return replace(case, label_map=path, label_names=read_labels(names))
    return case


def _add_own_tables(case: Case) -> None:
    for kind, columns, add in (("points", POINT_COLUMNS, Case.add_point), ("boxes", BOX_COLUMNS, Case.add_box)):
        path = case.path.with_name(f"{case.id}_{kind}.csv")
        for row in read_annotations(path, columns) if path.is_file() else ():
            add(case, row)
