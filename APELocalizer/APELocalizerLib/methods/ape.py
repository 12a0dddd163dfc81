"""The product itself as a method: an embedding map for every scan, a library for every support.

Embedding maps, libraries and coarse CTs are this method's own; no other method has to know them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.app.library_builder import joined
from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.progress import CancelCheck
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.entries import Landmark
from APELocalizerLib.core.library.learning import learn_box, learn_points, learn_six_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.alignment import Reference
from APELocalizerLib.core.localization.answers import Localization
from APELocalizerLib.core.localization.localize import LocalizationSettings
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place
from APELocalizerLib.methods.map_store import MapStore
from APELocalizerLib.methods.method import ANSWER, SCAN, SEARCH, Answer, Clock


@dataclass(frozen=True, eq=False)
class ApeSettings:
    """How the product embeds scans (`engine`, `spacing`) and finds places (`rule`, `refined`)."""

    engine: Engine
    spacing: str = "standard"
    rule: str = "paper"
    refined: bool = True

    @property
    def model(self) -> Model:
        """The engine's model."""
        return self.engine.model

    @property
    def reference(self) -> Reference | None:
        """What the engine aligns coordinates with, or None."""
        return self.engine.reference


class ApeMethod:
    """The product: an embedding map for every scan, a library for every support, the engine's search to find."""

    says_not_found = True
    slow_per_pair = False

    def __init__(
        self,
        name: str,
        embed: Callable[[Scan], tuple[EmbeddingMap, float]],
        localize: Callable[[EmbeddingMap, LandmarkLibrary], Localization],
    ) -> None:
        """`embed` gives the map of a scan, and the seconds that this took; `localize` finds a library on a map."""
        self.name = name
        self.clock = Clock()
        self.maps: dict[str, EmbeddingMap] = {}
        self.libraries: dict[str, LandmarkLibrary] = {}
        self._embed, self._localize = embed, localize

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Embed the scan."""
        embedding_map, seconds = self._embed(scan)
        self.maps[scan_id] = replace(embedding_map, scan_fingerprint=scan_id, scan_name=scan_id)
        self.clock.add(SCAN, seconds)

    def learn(self, support: AnnotatedCase) -> list[Place]:
        """Learn every place of a support that lies in its body."""
        embedding_map, library = self.maps[support.id], LandmarkLibrary()
        single = {place: points[0] for place, points in support.places.items() if place.kind != "organ"}
        learned = [place for place, point in single.items() if _is_inside(embedding_map, point)]
        if learned:
            library = learn_points(library, embedding_map, {place.label: single[place] for place in learned})
        for place, positions in support.places.items():
            if place.kind != "organ":
                continue
            try:
                if place.definition == "box":
                    library = learn_box(library, embedding_map, place.label, support.organs[place.name].box)
                else:
                    library = learn_six_points(library, embedding_map, place.label, positions)
            except LearningError:
                continue
            learned.append(place)
        self.libraries[support.id] = library
        return learned

    def find(
        self, target_id: str, supports: Sequence[AnnotatedCase], places: Sequence[Place]
    ) -> Mapping[Place, Answer]:
        """Find the places with the shots of all supports that have them."""
        labels = {place.label: place for place in places}
        library = joined([self.libraries[support.id].subset(labels) for support in supports])
        if not library.entries:
            return {}
        embedding_map = self.maps[target_id]
        start = time.perf_counter()
        localization = self._localize(embedding_map, library)
        count = len(localization.points) + 6 * len(localization.organs)
        self.clock.add(ANSWER, time.perf_counter() - start, count)
        self._time_search(embedding_map, library)
        answers = {}
        for point in localization.points:
            answers[labels[point.name]] = Answer(
                np.array([point.candidate_ras]), None, point.round_trip_mm, point.distance, point.found
            )
        for organ in localization.organs:
            answers[labels[organ.name]] = Answer(
                np.array(organ.extreme_points_ras), organ.raw_box, organ.round_trip_mm, organ.distance, organ.found
            )
        return answers

    def _time_search(self, embedding_map: EmbeddingMap, library: LandmarkLibrary) -> None:
        """Note the seconds of the bare nearest-neighbor search, which is what the papers call a retrieval."""
        embeddings = np.array(_first_embeddings(library))
        start = time.perf_counter()
        embedding_map.nearest(embeddings)
        self.clock.add(SEARCH, time.perf_counter() - start, len(embeddings))


def make_ape(
    name: str, settings: ApeSettings, cache: str | Path | None = None, cancelled: CancelCheck | None = None
) -> ApeMethod:
    """The product with these settings; maps are kept in the folder `cache`, if there is one.

    Raises `ModelError` for a reference of another model, and `LibraryError` for one that nothing can be aligned with.
    """
    model, reference = settings.model, settings.reference
    engine = settings.engine
    engine.check()
    store = MapStore(cache)
    search = LocalizationSettings(settings.rule, model.round_trip_threshold_mm, settings.refined)
    made_with = model.id if reference is None else f"{model.id} aligned with {reference.digest}"

    def compute(scan: Scan) -> EmbeddingMap:
        return engine.map(scan, settings.spacing, cancelled=cancelled)

    def embed(scan: Scan) -> tuple[EmbeddingMap, float]:
        return store.get(scan, made_with, settings.spacing, compute)

    def localize(embedding_map: EmbeddingMap, library: LandmarkLibrary) -> Localization:
        return engine.localize(embedding_map, library, search)

    return ApeMethod(name, embed, localize)


def name_of_variant(first: ApeSettings, second: ApeSettings) -> str:
    """What the second settings are called in tables: the model's id, and in what else they differ from the first."""
    parts = [second.model.id]
    parts += [getattr(second, name) for name in ("spacing", "rule") if getattr(second, name) != getattr(first, name)]
    parts += ["not refined"] if first.refined and not second.refined else []
    if (first.reference is None) != (second.reference is None):
        parts.append("aligned" if first.reference is None else "not aligned")
    return ", ".join(parts)


def _is_inside(embedding_map: EmbeddingMap, point: np.ndarray) -> bool:
    """Whether a point (3,) lies in the body and in the field of view, so that it can be learned."""
    return bool(embedding_map.is_body(point[None])[0] and embedding_map.field_of_view.contains(point[None])[0])


def _first_embeddings(library: LandmarkLibrary) -> list[tuple[float, ...]]:
    """The embeddings of every entry's first shot: one of a landmark, six of an organ."""
    embeddings: list[tuple[float, ...]] = []
    for entry in library.entries:
        embeddings += [entry.shots[0].embedding] if isinstance(entry, Landmark) else entry.shots[0].embeddings
    return embeddings
