"""The product itself as a method: an embedding map for every scan, a library for every support."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from APELocalizerLib.app.library_builder import joined
from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.entries import Landmark, OrganShot, Shot
from APELocalizerLib.core.library.learning import learn_box, learn_points, learn_six_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.method import ANSWER, SCAN, SEARCH, Answer, Clock
from APELocalizerLib.methods.places import Place, Subject


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
                np.array(organ.extreme_points_ras), organ.raw_box, organ.round_trip_mm, organ.distance, organ.found
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
