"""Marks on one scan from files of any kind: named points and boxes, and the names of a label map's labels. RAS mm."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from APELocalizerLib.core.annotations.markups import fcsv_points, markup_boxes, markup_points, parse_json
from APELocalizerLib.core.annotations.tables import BOX_COLUMNS, POINT_COLUMNS, read_text, rows_of
from APELocalizerLib.core.base.errors import AnnotationError
from APELocalizerLib.core.base.geometry import Box

LARGEST_LABEL = 2**31 - 1

Mark = TypeVar("Mark", np.ndarray, Box)


def read_points(path: str | Path) -> dict[str, np.ndarray]:
    """Named points (3,) RAS mm from a Slicer markups file (.mrk.json), a point list of an older Slicer (.fcsv), or a
    CSV with the columns name,r_mm,a_mm,s_mm.

    Raises `AnnotationError` naming what is wrong: a missing column, a value that is no number, a name given twice.
    """
    path = Path(path)
    readers = {".json": markup_points, ".fcsv": fcsv_points}
    points = _once(
        readers.get(path.suffix.lower(), _csv_points)(read_text(path, "points"), path.name), path, "landmark"
    )
    if not points:
        raise AnnotationError(f"{path.name} holds no placed landmark.")
    return points


def read_boxes(path: str | Path) -> dict[str, Box]:
    """Named boxes from a CSV with the columns name,rmin,rmax,amin,amax,smin,smax (RAS mm; others are ignored), or from
    the ROIs of a Slicer markups file (.mrk.json). Raises `AnnotationError` as `read_points` does."""
    path = Path(path)
    reader: Callable[[str, str], Iterator[tuple[str, Box]]]
    reader = markup_boxes if path.suffix.lower() == ".json" else _csv_boxes
    return _once(reader(read_text(path, "boxes"), path.name), path, "organ")


def read_labels(path: str | Path) -> dict[int, str]:
    """Label names of a segmentation from JSON such as {"1": "spleen"}; raises `AnnotationError` for anything else."""
    path = Path(path)
    example = 'must be JSON that maps label numbers to names, such as {"1": "spleen"}'
    content = parse_json(read_text(path, "labels"), path.name, example)
    wrong = AnnotationError(f"{path.name} {example}.")
    if not isinstance(content, dict):
        raise wrong
    labels: dict[int, str] = {}
    for label, name in content.items():
        try:
            number = int(label)
        except ValueError as error:
            raise wrong from error
        if not isinstance(name, str) or not name.strip() or not 0 <= number <= LARGEST_LABEL:
            raise wrong
        if number in labels:
            raise AnnotationError(f"{path.name} names the label {number} twice. Remove one of them.")
        labels[number] = name.strip()
    return labels


def _csv_points(text: str, table: str) -> Iterator[tuple[str, np.ndarray]]:
    for row in rows_of(text, POINT_COLUMNS, table):
        yield row.name, np.array(row.numbers(POINT_COLUMNS[1:]))


def _csv_boxes(text: str, table: str) -> Iterator[tuple[str, Box]]:
    for row in rows_of(text, BOX_COLUMNS, table):
        yield row.name, row.box


def _once(pairs: Iterable[tuple[str, Mark]], path: Path, kind: str) -> dict[str, Mark]:
    marks: dict[str, Mark] = {}
    for name, mark in pairs:
        if name in marks:
            raise AnnotationError(f'{path.name} holds the {kind} "{name}" twice. Rename or remove one of them.')
        marks[name] = mark
    return marks
