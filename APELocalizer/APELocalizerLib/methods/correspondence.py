"""The correspondence of two scans as a method: every place of the support is carried to the target by one field.

Beside the product's single answers it shows what the field costs in exactness; beside registration, what it gains.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from APELocalizerLib.core.base.errors import CorrespondenceError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.localization.correspondence import Correspondence, correspond
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place
from APELocalizerLib.methods.ape import ApeMethod
from APELocalizerLib.methods.method import PAIR, SEARCH, Answer
from APELocalizerLib.methods.transfer import Transfer


class CorrespondenceMethod(Transfer):
    """Carries places by `correspond`; supports count the more the surer they are. Out of view is "not found"."""

    name = "correspondence"
    says_not_found = True
    slow_per_pair = True

    def __init__(self, ape: ApeMethod) -> None:
        """`ape` embeds the scans, and keeps their maps."""
        super().__init__()
        self._ape = ape
        self._pairs: dict[tuple[str, str], Correspondence | None] = {}

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Embed the scan, unless the product's own method has."""
        if scan_id not in self._ape.maps:
            self._ape.prepare(scan_id, scan)

    def compare(self, support_id: str, target_id: str) -> None:
        """Find which places of the pair are the same, once; scans that seem to share nothing have no answer."""
        pair = (support_id, target_id)
        if pair in self._pairs:
            return
        start = time.perf_counter()
        try:
            self._pairs[pair] = correspond(self._ape.maps[support_id], self._ape.maps[target_id])
        except CorrespondenceError:
            self._pairs[pair] = None
        self.clock.add(PAIR, time.perf_counter() - start)

    def find(
        self, target_id: str, supports: Sequence[AnnotatedCase], places: Sequence[Place]
    ) -> Mapping[Place, Answer]:
        """Carry the places from every support that has them."""
        for support in supports:
            self.compare(support.id, target_id)
        answers = {}
        for place in places:
            start = time.perf_counter()
            answer = self._carried(place, target_id, [support for support in supports if place in support.places])
            self.clock.add(SEARCH, time.perf_counter() - start)
            if answer is not None:
                answers[place] = answer
        return answers

    def _carried(self, place: Place, target_id: str, supports: Sequence[AnnotatedCase]) -> Answer | None:
        """The mean of where a place is carried from the supports, weighted by how sure each is."""
        view, carried = self._ape.maps[target_id].field_of_view, []
        for support in supports:
            pair = self._pairs[support.id, target_id]
            if pair is not None:
                answer = pair.to_second(support.places[place])
                anywhere = pair.field.forward(support.places[place])
                carried.append((_inside(view, anywhere), answer.expected_error_mm, answer.in_view))
        if not carried:
            middle = np.repeat(view.center[None], len(supports[0].places[place]), axis=0)
            return Answer(middle, None, float("inf"), found=False)
        positions, expected, in_view = map(np.array, zip(*carried, strict=True))
        weights = 1.0 / np.clip(expected, 1.0, 1e3)[..., None] ** 2
        mean = (weights * positions).sum(axis=0) / weights.sum(axis=0)
        box = Box.around(mean) if len(mean) == 6 else None
        return Answer(mean, box, float(np.median(expected)), found=bool(in_view.mean() >= 0.5))


def _inside(view: Box, positions: np.ndarray) -> np.ndarray:
    """Positions (n, 3) moved into the field of view."""
    return np.clip(positions, view.minimum, view.maximum)
