"""What a localization answers: points, organ boxes, and how sure it is of each. RAS mm."""

from dataclasses import dataclass

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.library.library import Code

FOUND, NOT_FOUND = "found", "not_found"


@dataclass(frozen=True)
class LocatedPoint:
    """A landmark on the scan. `position_ras` is None when it was not found; `candidate_ras` is the best guess."""

    name: str
    found: bool
    position_ras: tuple[float, float, float] | None
    candidate_ras: tuple[float, float, float]
    round_trip_mm: float
    distance: float
    reason: str
    color: tuple[float, float, float]
    code: Code | None = None
    description: str = ""

    @property
    def status(self) -> str:
        """ "found" or "not_found"."""
        return FOUND if self.found else NOT_FOUND


@dataclass(frozen=True)
class LocatedOrgan:
    """An organ's box on the scan, enlarged by `alpha` and clipped to the field of view (None when not found).

    `raw_box` is the box before that; `volume_ratio` is the scan's volume divided by the box's (APE paper, Table 4).
    `extreme_points_ras` (6, 3) in the library's order, found or not.
    """

    name: str
    found: bool
    box: Box | None
    raw_box: Box | None
    alpha: float
    volume_ratio: float
    round_trip_mm: float
    distance: float
    extreme_points_ras: tuple[tuple[float, float, float], ...]
    reason: str
    color: tuple[float, float, float]
    code: Code | None = None

    @property
    def status(self) -> str:
        """ "found" or "not_found"."""
        return FOUND if self.found else NOT_FOUND

    @property
    def center_ras(self) -> tuple[float, float, float] | None:
        """Center of the organ: of the box before it was enlarged and clipped, which moves the box's own center."""
        return None if self.box is None or self.raw_box is None else tuple(float(x) for x in self.raw_box.center)


@dataclass(frozen=True)
class Localization:
    """All results on one scan."""

    points: tuple[LocatedPoint, ...]
    organs: tuple[LocatedOrgan, ...]
    space: CoordinateSpace
    spacing: str
    scan_name: str
    rule: str
    threshold_mm: float
    notes: tuple[str, ...] = ()

    @property
    def model_id(self) -> str:
        """Id of the model that the scan was read with."""
        return self.space.model_id


def confidence_text(result: LocatedPoint | LocatedOrgan) -> str:
    """One line for the point's description: status, round-trip error and, if not found, why."""
    if result.found:
        return f"found, round trip {result.round_trip_mm:.1f} mm"
    return f"not found: {result.reason}"
