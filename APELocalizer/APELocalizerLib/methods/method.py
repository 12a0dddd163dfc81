"""Ways of carrying a place from supports to a target: the product itself with some model and rule, or a baseline.

A method is first shown every scan (`prepare`), then every support (`learn`), and is then asked (`find`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol as Interface

import numpy as np

from APELocalizerLib.app.library_builder import joined
from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.learning import learn_box, learn_points, learn_six_points
from APELocalizerLib.core.library.library import Landmark, LandmarkLibrary, OrganShot, Shot
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.evaluation.subjects import Place, Subject

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


class ApeMethod:
    """The product: an embedding map for every scan, a library for every support, `localize` to find."""

    says_not_found = True

    def __init__(
        self,
        name: str,
        embed: Callable[[Scan], tuple[EmbeddingMap, float]],
        settings: LocalizationSettings | None = None,
    ) -> None:
        """`embed` gives the map of a scan, and the seconds that this took."""
        self.name = name
        self.settings = settings or LocalizationSettings()
        self.clock = Clock()
        self.maps: dict[str, EmbeddingMap] = {}
        self.libraries: dict[str, LandmarkLibrary] = {}
        self._embed = embed

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Embed the scan."""
        found, seconds = self._embed(scan)
        self.maps[scan_id] = replace(found, scan_fingerprint=scan_id, scan_name=scan_id)
        self.clock.add(SCAN, seconds)

    def learn(self, subject: Subject) -> list[Place]:
        """Learn every place of a support that lies in its body."""
        embedding_map, library = self.maps[subject.id], LandmarkLibrary()
        single = {place: points[0] for place, points in subject.places.items() if place.kind != "organ"}
        learned = [place for place, point in single.items() if _is_inside(embedding_map, point)]
        if learned:
            library = learn_points(library, embedding_map, {place.label: single[place] for place in learned})
        for place, positions in subject.places.items():
            if place.kind != "organ":
                continue
            try:
                if place.definition == "box":
                    library = learn_box(library, embedding_map, place.label, subject.organs[place.name].box)
                else:
                    library = learn_six_points(library, embedding_map, place.label, positions)
            except LearningError:
                continue
            learned.append(place)
        self.libraries[subject.id] = library
        return learned

    def can_find(self, target_id: str, support_ids: Sequence[str]) -> bool:
        """Always."""
        return True

    def find(self, target_id: str, supports: Sequence[Subject], places: Sequence[Place]) -> Mapping[Place, Answer]:
        """Find the places with the shots of all supports that have them."""
        labels = {place.label: place for place in places}
        library = joined([self.libraries[support.id].subset(labels) for support in supports])
        if not library.entries:
            return {}
        embedding_map = self.maps[target_id]
        start = time.perf_counter()
        answer = localize(embedding_map, library, self.settings)
        count = len(answer.points) + 6 * len(answer.organs)
        self.clock.add(ANSWER, time.perf_counter() - start, count)
        self._time_search(embedding_map, library)
        found = {}
        for point in answer.points:
            found[labels[point.name]] = Answer(
                np.array([point.candidate_ras]), None, point.round_trip_mm, point.distance, point.found
            )
        for organ in answer.organs:
            found[labels[organ.name]] = Answer(
                np.array(organ.edge_points_ras), organ.raw_box, organ.round_trip_mm, organ.distance, organ.found
            )
        return found

    def _time_search(self, embedding_map: EmbeddingMap, library: LandmarkLibrary) -> None:
        """Note the seconds of the bare nearest-neighbor search, which is what the papers call a retrieval."""
        queries = np.array([embedding for shot in _first_shots(library) for embedding in shot])
        start = time.perf_counter()
        embedding_map.nearest(queries)
        self.clock.add(SEARCH, time.perf_counter() - start, len(queries))


def _is_inside(embedding_map: EmbeddingMap, point: np.ndarray) -> bool:
    """Whether a point (3,) lies in the body and in the field of view, so that it can be learned."""
    return bool(embedding_map.is_body(point[None])[0] and embedding_map.field_of_view.contains(point[None])[0])


def _first_shots(library: LandmarkLibrary) -> list[tuple]:
    def embeddings(shot: Shot | OrganShot, entry: object) -> tuple:
        return (shot.embedding,) if isinstance(entry, Landmark) else shot.embeddings

    return [embeddings(entry.shots[0], entry) for entry in library.entries]


class Transfer:
    """A method that carries positions from one support to the target; answers of several supports are averaged."""

    says_not_found = False
    name = ""

    def __init__(self) -> None:
        self.clock = Clock()

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Nothing to look at."""

    def learn(self, subject: Subject) -> list[Place]:
        """Every place."""
        return list(subject.places)

    def can_find(self, target_id: str, support_ids: Sequence[str]) -> bool:
        """Always."""
        return True

    def compare(self, support_id: str, target_id: str) -> None:
        """Do what must be done once for the pair."""

    def carry(self, support_id: str, target_id: str, points: np.ndarray) -> np.ndarray:
        """Positions (n, 3) on the support carried to the target, RAS mm."""
        raise NotImplementedError

    def find(self, target_id: str, supports: Sequence[Subject], places: Sequence[Place]) -> Mapping[Place, Answer]:
        """Carry the places from every support that has them."""
        carried: dict[Place, list[np.ndarray]] = {}
        for support in supports:
            known = [place for place in places if place in support.places]
            if not known:
                continue
            points = np.concatenate([support.places[place] for place in known])
            self.compare(support.id, target_id)
            start = time.perf_counter()
            moved = self.carry(support.id, target_id, points)
            self.clock.add(SEARCH, time.perf_counter() - start, len(points))
            ends = np.cumsum([len(support.places[place]) for place in known])[:-1]
            for place, positions in zip(known, np.split(moved, ends), strict=True):
                carried.setdefault(place, []).append(positions)
        return {place: _averaged(each) for place, each in carried.items()}


def _averaged(shots: list[np.ndarray]) -> Answer:
    positions = np.mean(shots, axis=0)
    if len(positions) != 6:
        return Answer(positions)
    boxes = [Box.around(each) for each in shots]
    walls = np.mean([(box.minimum, box.maximum) for box in boxes], axis=0)
    return Answer(positions, Box(tuple(walls[0]), tuple(walls[1])))
