"""Table of terms: what each landmark and organ of a library is called, coded, described and colored.

`terms.csv`: name,kind,scheme,value,meaning,description,color. `kind` is landmark or organ; scheme (SCT or FMA), value
and meaning are the code, all empty where none is known; color is #rrggbb.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from APELocalizerLib.core.annotations.tables import read_rows
from APELocalizerLib.core.base.errors import AnnotationError, LibraryError
from APELocalizerLib.core.library.entries import Code

COLUMNS = ("name", "kind", "scheme", "value", "meaning", "description", "color")
KINDS = ("landmark", "organ")


@dataclass(frozen=True)
class Term:
    """One row of the table; `color` is red, green, blue from 0 to 1."""

    name: str
    kind: str
    code: Code | None
    description: str
    color: tuple[float, float, float]


def read_terms(path: str | Path) -> dict[str, Term]:
    """Terms by name, in the table's order. Raises `LibraryError` naming the file and the line that is wrong."""
    terms: dict[str, Term] = {}
    try:
        rows = read_rows(path, COLUMNS, "terms")
    except AnnotationError as error:
        raise LibraryError(f"The table of terms cannot be read: {error}") from error
    for row in rows:
        try:
            term = _term(row)
        except LibraryError as error:
            raise LibraryError(f"{row.place}: {error}") from error
        if term.name in terms:
            raise LibraryError(f'{row.place}: "{term.name}" occurs twice. Remove one of the two lines.')
        terms[term.name] = term
    return terms


def check_names(terms: Mapping[str, Term], landmarks: set[str], organs: set[str]) -> None:
    """Raise `LibraryError` for annotated names that are not in the table, or are there as the other kind."""
    for kind, names in (("landmark", landmarks), ("organ", organs)):
        unknown = sorted(name for name in names if name not in terms)
        if unknown:
            raise LibraryError(
                f"The table of terms does not know the {kind} {', '.join(unknown)}. "
                "Add a line for it, or correct the name in the annotations."
            )
        for name in sorted(names):
            if terms[name].kind != kind:
                raise LibraryError(
                    f'"{name}" is annotated as {kind}, but the table of terms calls it {terms[name].kind}. '
                    "Correct the table, or give one of the two another name."
                )


def _term(row: Mapping[str, str]) -> Term:
    if not row["name"]:
        raise LibraryError("There is no name.")
    if row["kind"] not in KINDS:
        raise LibraryError(f'"{row["name"]}" must be a landmark or an organ, not "{row["kind"]}".')
    filled = [bool(row[column]) for column in ("scheme", "value", "meaning")]
    if any(filled) and not all(filled):
        raise LibraryError(f'The code of "{row["name"]}" needs scheme, value and meaning, or none of them.')
    code = Code(row["scheme"], row["value"], row["meaning"]) if all(filled) else None
    if not re.fullmatch("#[0-9a-fA-F]{6}", row["color"]):
        raise LibraryError(f'The color of "{row["name"]}" must look like #ff8000, not "{row["color"]}".')
    red, green, blue = (round(int(row["color"][i : i + 2], 16) / 255, 4) for i in (1, 3, 5))
    return Term(row["name"], row["kind"], code, row["description"], (red, green, blue))
