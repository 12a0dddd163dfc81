"""Everything marked on one support, whatever it came from, and learning it in one go. RAS mm."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.learning import learn_box, learn_points, learn_segmentation
from APELocalizerLib.core.library.library import LandmarkLibrary, support_id_of


@dataclass(frozen=True, eq=False)
class Marks:
    """What was marked on a support.

    `points`: name → position (3,) RAS mm. `labels`: a label map (i, j, k) and its 4x4 index→RAS, on any grid;
    `label_names`: label → organ. `boxes`: organ → box.
    """

    points: Mapping[str, np.ndarray] | None = None
    labels: tuple[np.ndarray, np.ndarray] | None = None
    label_names: Mapping[int, str] | None = None
    boxes: Mapping[str, Box] | None = None


@dataclass(frozen=True, eq=False)
class Learned:
    """The library with what was learned, and the organs of the label map that could not be (`left_out`)."""

    library: LandmarkLibrary
    left_out: tuple[str, ...] = ()


def learn_marks(library: LandmarkLibrary, support_map: EmbeddingMap, marks: Marks) -> Learned:
    """The library with one more shot of everything marked on the support of the map; the given one is unchanged.

    Raises `LearningError` for marks that cannot be learned, `LibraryError` where they do not fit the library.
    """
    if not (marks.points or marks.labels or marks.boxes):
        raise LearningError("There is nothing to learn: mark at least one landmark or organ on the support scan.")
    if marks.points:
        library = learn_points(library, support_map, marks.points)
    if marks.labels:
        library = learn_segmentation(library, support_map, *marks.labels, marks.label_names or {})
    for name, box in (marks.boxes or {}).items():
        library = learn_box(library, support_map, name, box)
    here = support_id_of(support_map)
    known = {organ.name for organ in library.organs if any(shot.support_id == here for shot in organ.shots)}
    return Learned(library, tuple(name for name in (marks.label_names or {}).values() if name not in known))
