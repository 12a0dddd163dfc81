"""What a library holds: landmarks and organs, each with one shot per support scan. Positions are RAS world mm."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.errors import LibraryError

Point = tuple[float, float, float]
EDGES = ("rmin", "rmax", "amin", "amax", "smin", "smax")
"""Order of an organ's six extreme points: its extremes toward left, right, posterior, anterior, inferior, superior."""

MOST_MM = 1e6
"""No position and no coordinate is larger."""

DEFAULT_COLOR = (1.0, 0.8, 0.2)
CODE_SCHEMES = ("SCT", "FMA")

LONGEST_NAME = 200
"""Letters of a name: files are named after it, and no system takes more than about 250."""


@dataclass(frozen=True)
class Code:
    """Term of SNOMED CT ("SCT") or of the Foundational Model of Anatomy ("FMA")."""

    scheme: str
    value: str
    meaning: str

    def __post_init__(self) -> None:
        if self.scheme not in CODE_SCHEMES:
            raise LibraryError(f'Codes come from SNOMED CT ("SCT") or FMA, not from "{self.scheme}".')


@dataclass(frozen=True)
class Shot:
    """One click on one support: position in RAS mm, embedding in embedding mm, ISO date."""

    support_id: str
    position_ras: Point
    embedding: Point
    date: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "position_ras", _point(self.position_ras, "position"))
        object.__setattr__(self, "embedding", _point(self.embedding, "embedding"))


@dataclass(frozen=True)
class OrganShot:
    """Six extreme points of an organ on one support, in the order of `EDGES`."""

    support_id: str
    extreme_points_ras: tuple[Point, ...]
    embeddings: tuple[Point, ...]
    date: str

    def __post_init__(self) -> None:
        for name in ("extreme_points_ras", "embeddings"):
            points = tuple(_point(p, "extreme point") for p in getattr(self, name))
            if len(points) != len(EDGES):
                raise LibraryError(f"An organ needs six extreme points, but {len(points)} were given.")
            object.__setattr__(self, name, points)


@dataclass(frozen=True)
class Landmark:
    """A point that was clicked on one or more supports."""

    name: str
    shots: tuple[Shot, ...]
    code: Code | None = None
    description: str = ""
    color: Point = DEFAULT_COLOR

    def __post_init__(self) -> None:
        _check_entry(self)


@dataclass(frozen=True)
class Organ:
    """An organ's box; `alpha` is the factor by which found boxes are enlarged (0.99 recall where calibrated)."""

    name: str
    shots: tuple[OrganShot, ...]
    code: Code | None = None
    description: str = ""
    color: Point = (0.3, 0.7, 1.0)
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_entry(self)
        if not (np.isfinite(self.alpha) and 0.5 <= self.alpha <= 10):
            raise LibraryError(f'The enlargement of "{self.name}" is {self.alpha}; it must lie between 0.5 and 10.')


def _point(values: Iterable[float], what: str) -> Point:
    try:
        point = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise LibraryError(f"A {what} must be three numbers.") from error
    if len(point) != 3 or not np.all(np.isfinite(point)):
        raise LibraryError(f"A {what} must be three finite numbers, not {point}.")
    if np.abs(point).max() > MOST_MM:
        raise LibraryError(f"A {what} is impossibly far away: {point}.")
    return point


def _check_entry(entry: Landmark | Organ) -> None:
    if not isinstance(entry.name, str) or not entry.name.strip():
        raise LibraryError("Every landmark and organ needs a name.")
    if len(entry.name) > LONGEST_NAME:
        raise LibraryError(
            f'The name "{entry.name[:30]}…" has {len(entry.name)} letters. Give it at most {LONGEST_NAME}.'
        )
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in entry.name):
        raise LibraryError(f"The name {entry.name!a} holds a line break or a character that cannot be written.")
    if not entry.shots:
        raise LibraryError(f'"{entry.name}" was not learned on any support scan.')
    object.__setattr__(entry, "color", _point(entry.color, "color"))
    refuse_duplicates(f'support of "{entry.name}"', [shot.support_id for shot in entry.shots])


def refuse_duplicates(what: str, names: list[str]) -> None:
    """Raise `LibraryError` if a name occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise LibraryError(f'The {what} "{name}" occurs twice. Rename or remove one of them.')
        seen.add(name)
