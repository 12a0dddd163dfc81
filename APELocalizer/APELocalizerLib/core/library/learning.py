"""Learning from a support scan: clicks, boxes, six extreme points or a label map become embeddings.

Positions are RAS world mm. Every function returns a new library with one more shot; the given one is unchanged.
"""

from collections.abc import Mapping
from datetime import datetime, timezone

import numpy as np

from APELocalizerLib.core.annotations.extreme_points import extreme_points_of_mask, is_cut, sorted_extreme_points
from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.entries import Code, Landmark, Organ, OrganShot, Shot
from APELocalizerLib.core.library.library import LandmarkLibrary, support_id_of


def learn_points(
    library: LandmarkLibrary,
    support_map: EmbeddingMap,
    points: Mapping[str, np.ndarray],
    codes: Mapping[str, Code] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> LandmarkLibrary:
    """Learn landmarks from clicks: `points` maps a name to its RAS position (3,) on the support.

    Raises `LearningError` if a click lies outside the support scan or in the air around the body.
    """
    if not points:
        raise LearningError("There is nothing to learn: place at least one landmark on the support scan.")
    positions = _positions(list(points.values()))
    _check_inside(support_map, positions, list(points))
    embeddings = _embeddings(support_map, positions)
    library = library.with_support(support_map)
    support_id, date = support_id_of(support_map), _today()
    landmarks = [
        Landmark(
            name,
            (Shot(support_id, tuple(position), tuple(embedding), date),),
            (codes or {}).get(name),
            (descriptions or {}).get(name, ""),
        )
        for name, position, embedding in zip(points, positions, embeddings, strict=True)
    ]
    return library.with_landmarks(landmarks)


def learn_six_points(
    library: LandmarkLibrary,
    support_map: EmbeddingMap,
    name: str,
    points: np.ndarray,
    code: Code | None = None,
    alpha: float = 1.0,
) -> LandmarkLibrary:
    """Learn an organ from six clicks (6, 3): its extremes along R, A and S, in any order.

    The clicks are sorted into (rmin, rmax, amin, amax, smin, smax): the assignment with the largest extent wins, so a
    user need not click in a fixed order. Raises `LearningError` if there are not six or they do not form a box.
    """
    positions = _positions(points)
    if len(positions) != 6:
        raise LearningError(f'"{name}" needs six extreme points, but {len(positions)} were given.')
    if np.any(np.ptp(positions, axis=0) <= 0):
        raise LearningError(
            f'The six extreme points of "{name}" do not form a box. Click its extremes in all directions.'
        )
    _check_inside(support_map, positions, [name] * 6)
    return _with_organ(library, support_map, name, sorted_extreme_points(positions), code, alpha)


def learn_box(
    library: LandmarkLibrary,
    support_map: EmbeddingMap,
    name: str,
    box: Box,
    code: Code | None = None,
    alpha: float = 1.0,
) -> LandmarkLibrary:
    """Learn an organ from its box (for example a markups ROI): the extreme points are the centers of its six sides.

    A center that lies in the air is moved inward to the skin: coordinates mean something in the body only. Raises
    `LearningError` if the box's center lies outside the support's body or the box has zero thickness.
    """
    if np.any(box.size <= 0):
        raise LearningError(f'The box of "{name}" has zero thickness. Draw it with size in all three directions.')
    _check_inside(support_map, box.center[None], [name])
    centers = np.repeat(box.center[None], 6, axis=0)
    for axis in range(3):
        centers[2 * axis, axis], centers[2 * axis + 1, axis] = box.minimum[axis], box.maximum[axis]
    extreme_points = np.array([_first_in_body(support_map, center, box.center) for center in centers])
    return _with_organ(library, support_map, name, extreme_points, code, alpha)


def learn_segmentation(
    library: LandmarkLibrary,
    support_map: EmbeddingMap,
    labels: np.ndarray,
    ijk_to_ras: np.ndarray,
    names: Mapping[int, str],
    codes: Mapping[str, Code] | None = None,
) -> LandmarkLibrary:
    """Learn organs from a label map (i, j, k) on any grid: six extreme points of every label in `names`.

    An organ that the field of view cuts is left out, since its true extreme cannot be seen, and so is one with an
    extreme in the air. Raises `LearningError` if two labels have one name, or no organ remains. A label that is
    absent does not keep the others from being learned.
    """
    if not names:
        raise LearningError("There is nothing to learn: the label map names no organ.")
    present = set(np.unique(labels).tolist())
    for name in names.values():
        if list(names.values()).count(name) > 1:
            raise LearningError(f'Two labels of the label map are called "{name}". Give every organ a name of its own.')
    names = {label: name for label, name in names.items() if label in present}
    if not names:
        raise LearningError("The label map holds no voxel of any organ named. Check the numbers of its labels.")
    organs, cut, in_air = [], [], []
    for label, name in names.items():
        extreme_points = extreme_points_of_mask(labels == label, ijk_to_ras)
        if is_cut(support_map.field_of_view, extreme_points, ijk_to_ras):
            cut.append(name)
        elif not support_map.is_body(extreme_points).all():
            in_air.append(name)
        else:
            organs.append(_organ(support_map, name, extreme_points, (codes or {}).get(name), 1.0))
    if not organs:
        why = [f"the field of view of the support cuts {', '.join(cut)}"] if cut else []
        why += [f"{', '.join(in_air)} reaches into the air around the body"] if in_air else []
        raise LearningError(
            f"No organ was learned: {', and '.join(why)}. Use a support that shows it whole, and a label map of it."
        )
    return library.with_support(support_map).with_organs(organs)


def _with_organ(
    library: LandmarkLibrary,
    support_map: EmbeddingMap,
    name: str,
    extreme_points: np.ndarray,
    code: Code | None,
    alpha: float,
) -> LandmarkLibrary:
    return library.with_support(support_map).with_organ(_organ(support_map, name, extreme_points, code, alpha))


def _organ(support_map: EmbeddingMap, name: str, extreme_points: np.ndarray, code: Code | None, alpha: float) -> Organ:
    embeddings = tuple(map(tuple, _embeddings(support_map, extreme_points)))
    shot = OrganShot(support_id_of(support_map), tuple(map(tuple, extreme_points)), embeddings, _today())
    return Organ(name, (shot,), code, alpha=alpha)


def _embeddings(support_map: EmbeddingMap, positions: np.ndarray) -> np.ndarray:
    """Coordinates (n, 3) at positions (n, 3); raises `MapError` for a map that holds others than three."""
    support_map.check_coordinates()
    return support_map.embedding_at(positions)


def _first_in_body(support_map: EmbeddingMap, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """First position (3,) in the body on the way from `start` to `stop`, in steps of 1 mm; `stop` if there is none."""
    steps = max(2, int(np.linalg.norm(stop - start)) + 1)
    path = start + np.linspace(0.0, 1.0, steps)[:, None] * (stop - start)
    inside = support_map.is_body(path) & support_map.field_of_view.contains(path)
    return path[int(np.argmax(inside))] if inside.any() else stop


def _positions(points: object) -> np.ndarray:
    positions = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(positions).all():
        raise LearningError("A landmark's position is not a number. Place it again on the support scan.")
    return positions


def _check_inside(support_map: EmbeddingMap, positions: np.ndarray, names: list[str]) -> None:
    inside = support_map.field_of_view.contains(positions, margin=1.0)
    body = support_map.is_body(positions)
    for name, position, is_inside, is_body in zip(names, positions, inside, body, strict=True):
        where = "(R {:.0f}, A {:.0f}, S {:.0f} mm)".format(*position)
        if not is_inside and _is_left_out(support_map, position):
            raise LearningError(
                f'"{name}" {where} lies in the neck, the head or the legs. Only places in the trunk are found.'
            )
        if not is_inside:
            raise LearningError(f'"{name}" {where} lies outside the support scan. Is the right support selected?')
        if not is_body:
            raise LearningError(f'"{name}" {where} lies in the air outside the body. Move it into the body.')


def _is_left_out(support_map: EmbeddingMap, position: np.ndarray) -> bool:
    """Whether a position (3,) RAS mm lies in a part of the scan that was left out, since it does not show the trunk."""
    view, (above, below) = support_map.field_of_view, support_map.left_out_mm
    part = Box(
        (view.minimum[0], view.minimum[1], view.minimum[2] - below),
        (view.maximum[0], view.maximum[1], view.maximum[2] + above),
    )
    return bool(part.contains(position[None], margin=1.0)[0])


def _today() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")
