"""What methods have in common that carry positions from one support to the target."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place
from APELocalizerLib.methods.method import SEARCH, Answer, Clock


class Transfer:
    """A method that carries positions from one support to the target; answers of several supports are averaged."""

    says_not_found = False
    slow_per_pair = False
    name = ""

    def __init__(self) -> None:
        self.clock = Clock()

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Nothing to look at."""

    def learn(self, support: AnnotatedCase) -> list[Place]:
        """Every place."""
        return list(support.places)

    def compare(self, support_id: str, target_id: str) -> None:
        """Do what must be done once for the pair."""

    def carry(self, support_id: str, target_id: str, points: np.ndarray) -> np.ndarray:
        """Positions (n, 3) on the support carried to the target, RAS mm."""
        raise NotImplementedError

    def find(
        self, target_id: str, supports: Sequence[AnnotatedCase], places: Sequence[Place]
    ) -> Mapping[Place, Answer]:
        """Carry the places from every support that has them."""
        carried: dict[Place, list[np.ndarray]] = {}
        for support in supports:
            known = [place for place in places if place in support.places]
            if not known:
                continue
            points = np.concatenate([support.places[place] for place in known])
            self.compare(support.id, target_id)
            start = time.perf_counter()
            points_on_target = self.carry(support.id, target_id, points)
            self.clock.add(SEARCH, time.perf_counter() - start, len(points))
            ends = np.cumsum([len(support.places[place]) for place in known])[:-1]
            for place, positions in zip(known, np.split(points_on_target, ends), strict=True):
                carried.setdefault(place, []).append(positions)
        return {place: _averaged(positions_of_supports) for place, positions_of_supports in carried.items()}


def _averaged(positions_of_supports: list[np.ndarray]) -> Answer:
    """The mean of several supports' positions, each (1, 3) or (6, 3); the box of six is the mean of their boxes."""
    positions = np.mean(positions_of_supports, axis=0)
    if len(positions) != 6 or not np.isfinite(positions).all():
        return Answer(positions)
    boxes = [Box.around(six) for six in positions_of_supports]
    low, high = np.mean([(box.minimum, box.maximum) for box in boxes], axis=0)
    return Answer(positions, Box(tuple(low), tuple(high)))
