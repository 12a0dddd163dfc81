"""Ways of carrying a place from supports to a target: the product itself with some model and rule, or a baseline.

A method is first shown every scan (`prepare`), then every support (`learn`), and is then asked (`find`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol as Interface

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.places import Place, Subject

Embed = Callable[[Scan], EmbeddingMap]


@dataclass(frozen=True, eq=False)
class Answer:
    """Where a place was found: `positions` (1, 3) or (6, 3) RAS mm, the box of six; and how sure the method is."""

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


class Method(Interface):
    """What the study needs of a method. `says_not_found` tells whether it can answer "not found"."""

    name: str
    says_not_found: bool
    clock: Clock

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Look at a scan while it is in memory."""

    def learn(self, subject: Subject) -> list[Place]:
        """Learn a support; returns the places that were learned."""

    def can_find(self, target_id: str, support_ids: Sequence[str]) -> bool:
        """Whether this target and these supports are to be tried."""

    def find(self, target_id: str, supports: Sequence[Subject], places: Sequence[Place]) -> Mapping[Place, Answer]:
        """Find the places, each learned on at least one of the supports, on a scan that was prepared."""


SCAN, SEARCH, ANSWER, PAIR = "read a scan", "look up a place", "localize a place", "compare two scans"
"""What is timed: once per scan; per place; per place; once per pair of scans."""
