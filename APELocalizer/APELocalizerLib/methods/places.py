"""Places that can be looked for, and the annotated scans that they are learned on and compared with. RAS mm."""

from dataclasses import dataclass, field

import numpy as np

from APELocalizerLib.core.annotations.organ_marks import (
    OrganMarks,
)
from APELocalizerLib.core.base.geometry import Box, grid_corners, spacing_of, subgrid_affine
from APELocalizerLib.core.preparation.body import body_box
from APELocalizerLib.core.preparation.orientation import canonical_view
from APELocalizerLib.core.scan.scan import Scan

BODY_HU = -500.0


@dataclass(frozen=True, order=True)
class Place:
    """Something to look for. `kind`: landmark or center (one point), or organ (six extreme points).

    `definition`: point, mask (from a label map) or box (from a box, also that of a label map).
    """

    kind: str
    definition: str
    name: str

    @property
    def label(self) -> str:
        """A name that no other place has."""
        return f"{self.kind} {self.definition} {self.name}"


@dataclass(frozen=True, eq=False)
class Subject:
    """One annotated scan without its voxels. `places` maps a place to its position(s) (1, 3) or (6, 3)."""

    id: str
    patient: str
    points: dict[str, np.ndarray]
    organs: dict[str, OrganMarks]
    uncertainty_mm: dict[str, float]
    field_of_view: Box
    body: Box
    ijk_to_ras: np.ndarray
    places: dict[Place, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def sigma(self, place: Place) -> float:
        """One-sigma uncertainty of a place's annotation in mm; 0 where unknown."""
        if place.kind == "landmark":
            return self.uncertainty_mm.get(place.name, 0.0)
        return self.organs[place.name].uncertainty_mm


def body_of(scan: Scan) -> Box:
    """Box around the body in a scan (the whole scan if there is no body), RAS mm."""
    voxels, grid = canonical_view(scan)
    found = body_box(voxels.transpose(2, 0, 1), spacing_of(grid)[[2, 0, 1]], BODY_HU)
    if found is None:
        return scan.bounds()
    part = (found[1], found[2], found[0])
    start = np.array([each.start for each in part], dtype=float)
    shape = tuple(each.stop - each.start for each in part)
    return Box.around(grid_corners(shape, subgrid_affine(grid, start, np.ones(3))))
