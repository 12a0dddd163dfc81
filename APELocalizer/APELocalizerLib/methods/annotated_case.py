"""Places that can be looked for, and the annotated scans that they are learned on and compared with. RAS mm."""

from dataclasses import dataclass, field

import numpy as np

from APELocalizerLib.core.annotations.organ_marks import OrganMarks
from APELocalizerLib.core.base.geometry import Box


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
class AnnotatedCase:
    """One annotated scan without its voxels. `places` maps a place to its position(s), (1, 3) or (6, 3) RAS mm.

    `uncertainty_mm` is one sigma of each landmark's annotation; `body` is the box around the body.
    """

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
