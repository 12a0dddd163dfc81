"""The interface of every way to carry a place from supports to a target: the product itself, or another method.

A method is first shown every scan (`prepare`), then every support (`learn`), and is then asked (`find`). It needs no
embedding, no library and no network: what it keeps of a scan is its own business. A new method is one file beside
this one, and one line in `registry.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place


@dataclass(frozen=True, eq=False)
class Answer:
    """Where a place was found, and how sure the method is.

    `positions` (1, 3), or (6, 3) in the order rmin, rmax, amin, amax, smin, smax, RAS mm; NaN along an axis on which
    the method says nothing: one that finds heights only answers (NaN, NaN, s). `box` is the box of six points, if the
    method makes one itself. `found` is what a user is told (None: the method cannot tell that something is missing).
    """

    positions: np.ndarray
    box: Box | None = None
    round_trip_mm: float = float("nan")
    distance: float = float("nan")
    found: bool | None = None


@dataclass
class Clock:
    """Seconds spent and how often, by what was done."""

    spent: dict[str, list[float]] = field(default_factory=dict)

    def add(self, what: str, seconds: float, count: int = 1) -> None:
        """Note that `count` pieces of work took `seconds` together."""
        total = self.spent.setdefault(what, [0.0, 0])
        total[0] += seconds
        total[1] += count

    def mean(self, what: str) -> float:
        """Mean seconds per piece; NaN where nothing was noted."""
        total, count = self.spent.get(what, (0.0, 0))
        return total / count if count else float("nan")


class Method(Protocol):
    """What the study needs of a method.

    `name` stands in the tables. `says_not_found` tells whether the method can answer "not found"; it is then also
    shown scans from which places were cropped away. `slow_per_pair` tells whether it works long on every pair of target
    and support (a registration); only a limited number of pairs is then tried, see `StudySettings.baseline_pairs`.
    """

    name: str
    says_not_found: bool
    slow_per_pair: bool
    clock: Clock

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Look at a scan while it is in memory."""

    def learn(self, support: AnnotatedCase) -> list[Place]:
        """Learn a support that was prepared; returns the places that were learned."""

    def find(
        self, target_id: str, supports: Sequence[AnnotatedCase], places: Sequence[Place]
    ) -> Mapping[Place, Answer]:
        """Find the places, each learned on at least one of the supports, on a scan that was prepared.

        A place without an answer is one that the method did not look for.
        """


SCAN, SEARCH, ANSWER, PAIR = "read a scan", "look up a place", "localize a place", "compare two scans"
"""What is timed: once per scan; per place; per place; once per pair of scans."""
