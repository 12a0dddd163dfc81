"""Annotation tables: one way to read rows, names and numbers, whose errors tell the table, the row and the column.

Tables are what spreadsheets and editors save as text: commas, semicolons or tabs between the cells, decimal commas
where the cells are not separated by commas, a byte order mark, empty rows, blanks around cells, capital letters in the
header. Everything is taken off the same way everywhere. Lengths are mm, positions RAS.
"""

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from APELocalizerLib.core.base.errors import AnnotationError
from APELocalizerLib.core.base.geometry import Box, triple

POINT_COLUMNS = ("name", "r_mm", "a_mm", "s_mm")
BOX_COLUMNS = ("name", "rmin", "rmax", "amin", "amax", "smin", "smax")

SEPARATORS = ",;\t"
LARGEST_FILE = 1 << 28
"""Bytes; no table of a person is larger."""


class Row(dict[str, str]):
    """Cells of one row by column, without blanks around them, "" where the row ends early.

    `place` names table and line for errors.
    """

    def __init__(self, cells: dict[str, str], table: str, line: int, decimal_comma: bool) -> None:
        super().__init__(cells)
        self.place = f"{table}, line {line}"
        self._decimal_comma = decimal_comma

    @property
    def name(self) -> str:
        """Name of the landmark or organ; raises `AnnotationError` if there is none."""
        if not self["name"]:
            of = f" of {self['case']}" if self.get("case") else ""
            raise AnnotationError(f"{self.place}: a row{of} names no landmark or organ. Complete or delete it.")
        return self["name"]

    def numbers(self, columns: Iterable[str]) -> list[float]:
        """Numbers in the columns; raises `AnnotationError` naming the one that holds none."""
        return [self.number(column) for column in columns]

    def number(self, column: str) -> float:
        """Finite number in a column; raises `AnnotationError` if it holds none."""
        text = self.get(column, "")
        try:
            value = float(text.replace(",", ".") if self._decimal_comma else text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or "_" in text:
            what = f"{self.get('name')} of {self['case']}" if self.get("case") else self.get("name")
            raise AnnotationError(
                f'{self.place}: {what} has no number in the column {column}, but "{text}". Correct it.'
            )
        return value

    @property
    def uncertainty_mm(self) -> float:
        """One sigma of the row in mm; 0 where the table does not say."""
        value = self.number("uncertainty_mm") if self.get("uncertainty_mm") else 0.0
        if value < 0:
            raise AnnotationError(f"{self.place}: the uncertainty of {self.name} is negative. Correct it.")
        return value

    @property
    def box(self) -> Box:
        """Box of the row; raises `AnnotationError` if it is none."""
        sides = self.numbers(BOX_COLUMNS[1:])
        try:
            return Box(triple(sides[::2]), triple(sides[1::2]))
        except ValueError as error:
            of = f" of {self['case']}" if self.get("case") else ""
            raise AnnotationError(
                f"{self.place}: in the box {self.name}{of} a minimum exceeds its maximum. Correct it."
            ) from error

    @property
    def cut_sides(self) -> tuple[str, ...]:
        """Sides ("smin", ...) that the field of view cuts, from the column cut_sides, separated by ";" or blanks."""
        sides = tuple(self.get("cut_sides", "").replace(";", " ").split())
        wrong = [side for side in sides if side not in BOX_COLUMNS[1:]]
        if wrong:
            of = f" of {self['case']}" if self.get("case") else ""
            raise AnnotationError(
                f'{self.place}: {self.name}{of} has the cut side "{wrong[0]}". '
                f"Write one or more of {', '.join(BOX_COLUMNS[1:])}, separated by semicolons."
            )
        return sides


def read_text(path: str | Path, what: str) -> str:
    """Text of a file in UTF-8 (or UTF-16 with its mark); raises `AnnotationError`, which calls the file `what`."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise AnnotationError(f"The {what} file {path.name} is too large to be one.")
        data = path.read_bytes()
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except FileNotFoundError as error:
        raise AnnotationError(f"The {what} file {path} does not exist.") from error
    except PermissionError as error:
        raise AnnotationError(f"The {what} file {path.name} may not be read. Ask for the permission.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(
            f"The {what} file {path.name} cannot be read as text. Save it again as text in UTF-8."
        ) from error


def read_rows(path: str | Path, columns: Iterable[str], what: str = "annotations") -> list[Row]:
    """Rows of a table that has all the columns named, without empty ones; raises `AnnotationError` otherwise."""
    return rows_of(read_text(path, what), tuple(columns), Path(path).name)


def rows_of(text: str, columns: tuple[str, ...], table: str) -> list[Row]:
    """Rows of a table's text; see `read_rows`."""
    separator = _separator(text, columns)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True, skipinitialspace=True)
    header: list[str] = []
    rows = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not header:
                header = _header(cells, columns, table)
                continue
            if any(cells[len(header) :]):
                raise AnnotationError(
                    f"{table}, line {reader.line_num}: the row has more cells than the header. "
                    "Write numbers with a point, and put texts with commas into quotation marks."
                )
            cells += [""] * (len(header) - len(cells))
            values = {column: cell for column, cell in zip(header, cells, strict=False) if column}
            rows.append(Row(values, table, reader.line_num, separator != ","))
    except csv.Error as error:
        raise AnnotationError(
            f"{table}, line {reader.line_num}: the table cannot be read ({error}). Is a quotation mark not closed?"
        ) from error
    if not header:
        _header([], columns, table)
    return rows


def _separator(text: str, columns: tuple[str, ...]) -> str:
    """The separator with which the first line that is not empty holds most of the columns."""
    first = next((line for line in text.splitlines() if line.strip(' ,;\t"')), "")

    def known(separator: str) -> int:
        return len({cell.strip(' "').lower() for cell in first.split(separator)} & set(columns))

    return max(SEPARATORS, key=known)


def _header(cells: list[str], columns: tuple[str, ...], table: str) -> list[str]:
    header = [cell.lower() for cell in cells]
    missing = [column for column in columns if column not in header]
    if missing:
        raise AnnotationError(f"{table} lacks the column(s) {', '.join(missing)}; it needs {','.join(columns)}.")
    twice = [column for column in header if column and header.count(column) > 1]
    if twice:
        raise AnnotationError(f"{table} has the column {twice[0]} twice. Remove one of them.")
    return header
