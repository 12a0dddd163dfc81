"""Pictures of the embedding itself: anatomical coordinates of structures in 3-D (APE paper, Figure 3), and as colors
over slices (Figure 2). Lengths in mm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.map_sampling import sample_on_grid
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.evaluation.plots import PLAIN_TEXT, save
from APELocalizerLib.evaluation.study import Study
from APELocalizerLib.methods.annotated_case import AnnotatedCase
from APELocalizerLib.methods.ape import ApeMethod

PLANES = (("coronal", 1, 0, 2), ("sagittal", 0, 1, 2), ("axial", 2, 0, 1))
"""Name, axis across the plane, and the axes (of R, A, S) to the right and upward in it."""

PIXEL_MM = 1.5
"""Size of the slices' pixels."""

CT_WINDOW = (-400.0, 500.0)
"""HU shown black and white."""

VIEWS = ((12, -70), (12, 20))
"""Elevation and azimuth of the two views of the scatter, degrees."""

VOXELS_PER_ORGAN = 40
"""About as many voxels of an organ are shown."""

MOST_STRUCTURES = 20
"""As many colors can be told apart."""

SMALLEST_EXTENT = 1e-3
"""Extent of an axis on which everything lies at one place."""


@matplotlib.rc_context(PLAIN_TEXT)
def draw_pictures(study: Study, scans: Mapping[str, Scan], folder: str | Path, axes: Sequence[str]) -> dict[str, str]:
    """Draw both pictures, which show three channels as three axes or colors; none for other methods and embeddings.

    `scans` are the cases whose slices are shown, `axes` name the embedding's channels. Returns file names by picture.
    """
    method = study.methods[0]
    if not isinstance(method, ApeMethod) or not _has_three_channels(method):
        return {}
    written = {}
    figure = embeddings(study, method, axes)
    if figure is not None:
        save(figure, Path(folder) / "embeddings.png")
        written["embeddings"] = "embeddings.png"
    if scans:
        save(maps(scans, method.maps, axes), Path(folder) / "maps.png")
        written["maps"] = "maps.png"
    return written


def _has_three_channels(method: ApeMethod) -> bool:
    return all(embedding_map.values.shape[-1] == 3 for embedding_map in method.maps.values())


def embeddings(study: Study, method: ApeMethod, axes: Sequence[str]) -> Figure | None:
    """Embeddings of the organs (or, without organs, the landmarks) of all patients, seen from two sides."""
    kind = "organ" if any(case.organs for case in study.cases.values()) else "landmark"
    clouds: dict[str, list[np.ndarray]] = {}
    for case in study.cases.values():
        for name, points in _structures(case, kind).items():
            clouds.setdefault(name, []).append(method.maps[case.id].embedding_at(points))
    names = sorted(clouds, key=lambda name: (-len(clouds[name]), name))[:MOST_STRUCTURES]
    if not names:
        return None
    figure = Figure(figsize=(11, 5.2))
    color_map = matplotlib.colormaps["tab10" if len(names) <= 10 else "tab20"]
    colors = [color_map(number) for number in range(color_map.N)]
    extent = np.ptp(np.concatenate([cloud for name in names for cloud in clouds[name]]), axis=0)
    extent = np.maximum(extent, max(extent.max(), SMALLEST_EXTENT) / 100)  # a single place has none
    for number, (elevation, azimuth) in enumerate(VIEWS):
        axis: Any = figure.add_axes((0.02 + 0.41 * number, 0.06, 0.38, 0.86), projection="3d")
        for name, color in zip(sorted(names), colors, strict=False):
            centers = np.array([cloud[0] for cloud in clouds[name]])
            around = np.concatenate([cloud[1:] for cloud in clouds[name]])
            axis.scatter(*around.T, s=9, color=color, alpha=0.6, linewidths=0)
            axis.scatter(*centers.T, s=34, color=color, edgecolors="black", linewidths=0.4, label=name)
        axis.view_init(elevation, azimuth)
        for line, text in zip((axis.xaxis, axis.yaxis, axis.zaxis), axes, strict=True):
            line.set_label_text(text, fontsize=8)
            line.set_major_locator(MaxNLocator(4))
        axis.tick_params(labelsize=7)
        axis.set_box_aspect(extent, zoom=0.95)
    what = "organs: centers (large) and places in or around them" if kind == "organ" else "landmarks"
    figure.suptitle(f"Embeddings of {len(study.cases)} scans, {what}", fontsize=10)
    figure.legend(*axis.get_legend_handles_labels(), loc="center right", fontsize=8)
    return figure


def _structures(case: AnnotatedCase, kind: str) -> dict[str, np.ndarray]:
    """Places (n, 3) of each whole organ, its center first; or of each landmark."""
    if kind == "landmark":
        return {place.name: points for place, points in case.places.items() if place.kind == "landmark"}
    structures: dict[str, np.ndarray] = {}
    for place, points in case.places.items():
        organ = case.organs.get(place.name)
        if place.kind != "organ" or organ is None or (organ.has_mask and place.definition == "box"):
            continue
        center = case.places[type(place)("center", place.definition, place.name)]
        if organ.voxels is not None:
            step = max(1, len(organ.voxels) // VOXELS_PER_ORGAN)
            points = organ.voxels[step // 2 :: step]
        structures[place.name] = np.concatenate([center, points])
    return structures


def maps(scans: Mapping[str, Scan], maps_of: Mapping[str, EmbeddingMap], axes: Sequence[str]) -> Figure:
    """CT and embedding as colors, in three planes through the same anatomical place of every scan."""
    shown = {name: maps_of[name] for name in scans}
    inside = np.concatenate([one_map.values[one_map.body] for one_map in shown.values()])
    low, high = np.quantile(inside, [0.01, 0.99], axis=0)
    first = next(iter(shown.values()))
    middle = first.embedding_at(first.field_of_view.center[None])
    figure = Figure(figsize=(13, 2.9 * len(scans)), layout="constrained", facecolor="black")
    grid = figure.subplots(len(scans), 6, squeeze=False)
    for row, (name, scan) in zip(grid, scans.items(), strict=True):
        center = shown[name].nearest(middle).points_ras[0]
        for number, (plane, across, right, up) in enumerate(PLANES):
            ijk_to_ras, shape = _slice_grid(shown[name], center, across, right, up)
            colors = (sample_on_grid(shown[name], shape, ijk_to_ras)[:, :, 0] - low) / (high - low)
            gray = _read(scan, shape, ijk_to_ras)
            body = np.isfinite(colors).all(axis=-1, keepdims=True)
            pictures = (np.repeat(gray[..., None], 3, -1), np.where(body, np.clip(colors, 0, 1), 0.0))
            for axis, picture in zip(row[2 * number : 2 * number + 2], pictures, strict=True):
                axis.imshow(picture.transpose(1, 0, 2), origin="lower", interpolation="nearest")
                axis.axis("off")
                axis.set_title(f"{name}, {plane}", fontsize=8, color="white")
    text = ", ".join(f"{color}: {axis}" for color, axis in zip(("red", "green", "blue"), axes, strict=True))
    figure.suptitle(f"Anatomical coordinates as colors ({text})", fontsize=9, color="white")
    return figure


def _slice_grid(
    embedding_map: EmbeddingMap, center: np.ndarray, across: int, right: int, up: int
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Index→RAS and shape of a slice through `center`, seen from the front, the left, or below."""
    view = embedding_map.field_of_view
    sign = -1.0  # right to left, and front to back, from left to right on the page
    start = np.array(center, dtype=float)
    start[right] = view.maximum[right]
    start[up] = view.minimum[up]
    grid = np.zeros((4, 4))
    grid[right, 0], grid[up, 1], grid[across, 2], grid[3, 3] = sign * PIXEL_MM, PIXEL_MM, PIXEL_MM, 1.0
    grid[:3, 3] = start
    return grid, (int(view.size[right] / PIXEL_MM) + 1, int(view.size[up] / PIXEL_MM) + 1, 1)


def _read(scan: Scan, shape: tuple[int, int, int], ijk_to_ras: np.ndarray) -> np.ndarray:
    """CT gray values 0..1 (columns, rows) on a slice's grid, nearest voxel; black outside."""
    cells = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    index = np.rint(apply_affine(np.linalg.inv(scan.ijk_to_ras) @ ijk_to_ras, cells)).astype(int)
    known = np.all((index >= 0) & (index < scan.voxels.shape), axis=1)
    values = np.full(len(index), CT_WINDOW[0])
    values[known] = scan.voxels[tuple(index[known].T)]
    low, high = CT_WINDOW
    return np.clip((values - low) / (high - low), 0, 1).reshape(shape[:2])
