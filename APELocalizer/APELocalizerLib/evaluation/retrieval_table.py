"""One retrieval (one place looked up on one target by one method), and the CSV table of all of them."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from APELocalizerLib.core.base.geometry import Box

NAN = float("nan")

EXTREME_POINT = "edge"
"""Kind of the retrieval of one of an organ's six extreme points, as it is called in retrievals.csv."""


@dataclass(frozen=True)
class Retrieval:
    """One retrieval by one method.

    `kind`: landmark, center or `EXTREME_POINT` (one point each); box (from single or joint supports); few-shot box
    (mean of the boxes of several supports, `fold` says of which draw); absent landmark, absent center, absent box
    (cropped away). `shots` is how many supports were asked for (0: all at once). `part` is the side of an extreme
    point, or the part of the scan that was left. `definition` is where the truth comes from (point, mask, box). Errors
    are in mm, found minus true; NaN along an axis on which the method says nothing, and `error_mm` is then NaN too.
    `wall_error_mm` is the mean distance of the six sides of a box (RPR-Loc's average wall distance, AWD).
    `uncertainty_mm` is one sigma of the two annotations together (0 where unknown). `found` is what a user is told
    (None: the method does not say). The fields are the columns of retrievals.csv.
    """

    method: str
    target: str
    supports: tuple[str, ...]
    kind: str
    name: str
    shots: int = 1
    part: str = ""
    definition: str = "point"
    error_mm: float = NAN
    error_r_mm: float = NAN
    error_a_mm: float = NAN
    error_s_mm: float = NAN
    uncertainty_mm: float = 0.0
    round_trip_mm: float = NAN
    distance: float = NAN
    found: bool | None = None
    iou: float = NAN
    wall_error_mm: float = NAN
    box: Box | None = None
    fold: int | None = None

    @property
    def question(self) -> tuple:
        """What was asked, without the method: equal for the retrievals of two methods that can be compared."""
        return (self.target, self.supports, self.shots, self.kind, self.name, self.part, self.definition, self.fold)

    @property
    def is_absent(self) -> bool:
        """Whether the right answer is "not found"."""
        return self.kind.startswith("absent")


BOX_SIDES = ("rmin", "rmax", "amin", "amax", "smin", "smax")
"""Sides of a box, which are also the names of an organ's six extreme points, in this order."""


def write_csv(retrievals: Iterable[Retrieval], path: str | Path) -> None:
    """Every single retrieval as a row; the supports are joined by "+", unknown values are empty."""
    names = [column.name for column in fields(Retrieval) if column.name != "box"]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, *BOX_SIDES])
        for retrieval in retrievals:
            row, box = [_cell(getattr(retrieval, name)) for name in names], retrieval.box
            sides = [NAN] * 6 if box is None else np.transpose([box.minimum, box.maximum]).ravel().tolist()
            writer.writerow([*row, *map(_cell, sides)])


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return "+".join(value) if isinstance(value, tuple) else str(value)


def select(
    retrievals: Iterable[Retrieval],
    kind: str,
    method: str | None = None,
    shots: int | None = None,
    definition: str | None = None,
) -> list[Retrieval]:
    """The retrievals of a kind; of one method, number of supports, or definition where these are given."""
    return [
        retrieval
        for retrieval in retrievals
        if retrieval.kind == kind
        and method in (None, retrieval.method)
        and shots in (None, retrieval.shots)
        and definition in (None, retrieval.definition)
    ]
