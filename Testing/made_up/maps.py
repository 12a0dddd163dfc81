"""Made-up maps and libraries whose right answers are known: an embedding that is a function of the position."""

from collections.abc import Callable

import numpy as np

from APELocalizerLib.core.base.geometry import Box, apply_affine, grid_corners
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import grid_to_ras, pli_grid
from made_up.models import MODEL_ID

Function = Callable[[np.ndarray], np.ndarray]
"""Of positions (n, 3) RAS mm."""


def map_of(
    shape: tuple,
    grid: np.ndarray,
    embedding: Function,
    body: Function | None = None,
    model_id: str = MODEL_ID,
    **changes: object,
) -> EmbeddingMap:
    """Map on any grid of cells: `embedding` (n, 3) mm and `body` (n,), by default everywhere, of the cells' positions.

    `changes` are fields of the map.
    """
    positions = apply_affine(grid, np.indices(shape).reshape(3, -1).T)
    name = changes.get("scan_name", "made-up scan")
    fields = {
        "values": embedding(positions).reshape(*shape, 3).astype(np.float32),
        "body": np.ones(shape, bool) if body is None else body(positions).reshape(shape),
        "grid_to_ras": grid,
        "space": CoordinateSpace(model_id),
        "spacing": "standard",
        "field_of_view": Box.around(grid_corners(tuple(shape), grid)),
        "scan_name": name,
        "scan_fingerprint": f"fingerprint of {name}",
    }
    return EmbeddingMap(**{**fields, **changes})


def map_of_scan(scan: Scan, embedding: Function, cell_mm: float = 10.0, **changes) -> EmbeddingMap:
    """Map of the field of view of an upright scan, in cells along R, A and S; all of them are body."""
    view = scan.bounds()
    shape = np.maximum(np.ceil(view.size / cell_mm - 1e-6).astype(int), 2)
    grid = grid_to_ras(shape, (cell_mm,) * 3, np.array(view.minimum) + cell_mm * shape / 2)
    named = {"scan_name": scan.name, "scan_fingerprint": scan.fingerprint, "field_of_view": view}
    return map_of(tuple(shape), grid, embedding, **{**named, **changes})


def torso_map(world_from_torso: np.ndarray) -> EmbeddingMap:
    """Map of the torso, moved by a 4x4 matrix, whose embedding is the position in the unmoved torso (mm)."""
    return map_of(
        (34, 50, 20),
        world_from_torso @ pli_grid((34, 50, 20), (8.0, 8.0, 12.0)),
        lambda positions: apply_affine(np.linalg.inv(world_from_torso), positions),
        lambda positions: _in_torso(apply_affine(np.linalg.inv(world_from_torso), positions)),
        field_of_view=Box((-200.0, -140.0, -120.0), (200.0, 140.0, 120.0)),
        scan_name="torso",
        scan_fingerprint="fingerprint",
        model_id="model@1",
    )


def _in_torso(positions: np.ndarray) -> np.ndarray:
    return (positions[:, 0] / 170) ** 2 + (positions[:, 1] / 110) ** 2 < 1


def anatomy(body_positions: np.ndarray) -> np.ndarray:
    """Anatomical coordinates (n, 3) mm of places (n, 3) in the average body: smooth, one-to-one, not linear."""
    p = np.asarray(body_positions, dtype=np.float64)
    return p + 5.0 * np.sin(p[:, [1, 2, 0]] / 60.0)


class Patient:
    """A body that is the average one, stretched and shifted; `place` says where an average place lies in it (mm)."""

    def __init__(self, stretch: tuple = (1.0, 1.0, 1.0), shift: tuple = (0.0, 0.0, 0.0)) -> None:
        self.stretch, self.shift = np.array(stretch, float), np.array(shift, float)

    def place(self, average: np.ndarray) -> np.ndarray:
        return np.asarray(average, dtype=np.float64) * self.stretch + self.shift

    def embedding(self, positions: np.ndarray) -> np.ndarray:
        return anatomy((np.asarray(positions) - self.shift) / self.stretch)


def smooth_map(
    patient: Patient | None = None,
    shape: tuple = (20, 22, 24),
    cell_mm: tuple = (8.0, 8.0, 12.0),
    center: tuple = (0.0, 0.0, 0.0),
    model_id: str = MODEL_ID,
    name: str = "made-up scan",
    noise_mm: float = 0.0,
    body: Function | None = None,
    turn: np.ndarray | None = None,
) -> EmbeddingMap:
    """Map of a patient: an elliptic cylinder of body along S, air around it, cut by the scan's top and bottom."""
    patient = patient or Patient()
    radii = np.array([shape[1] * cell_mm[1], shape[0] * cell_mm[0]]) / 2 - 1.5 * np.array([cell_mm[1], cell_mm[0]])

    def cylinder(positions: np.ndarray) -> np.ndarray:
        return (((positions[:, :2] - np.array(center)[:2]) / radii) ** 2).sum(axis=1) <= 1.0

    def embedding(positions: np.ndarray) -> np.ndarray:
        values = patient.embedding(positions) + np.random.default_rng(5).normal(0, noise_mm or 1e-30, positions.shape)
        return np.where((body or cylinder)(positions)[:, None], values, -900.0)

    grid = (np.eye(4) if turn is None else turn) @ pli_grid(shape, cell_mm, center)
    return map_of(shape, grid, embedding, body or cylinder, model_id=model_id, scan_name=name)


CLICKS = {
    "carina": np.array([3.3, -12.7, 61.9]),
    "apex": np.array([-31.2, 14.1, 97.4]),
    "dome": np.array([24.6, 20.3, -40.8]),
}
"""Places in the average body."""

ORGAN = Box((-45, -30, -60), (40, 25, 20))
"""The box of an organ of the average body."""

OTHER_PATIENT = Patient((1.08, 0.94, 1.03), (6, -9, 4))
"""Somebody of another build, who lies elsewhere."""


def library_of(*supports: tuple[Patient, EmbeddingMap]) -> LandmarkLibrary:
    """The landmarks of `CLICKS`, clicked on every support exactly where its patient has them."""
    library = LandmarkLibrary()
    for patient, support_map in supports:
        points = {name: patient.place(place) for name, place in CLICKS.items()}
        library = learn_points(library, support_map, points)
    return library
