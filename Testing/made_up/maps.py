"""Small made-up scans, maps, models and libraries whose right answers are known by construction."""

from collections.abc import Callable

import numpy as np
import torch

from APELocalizerLib.core.base.geometry import Box, apply_affine, grid_corners
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from APELocalizerLib.core.preparation.config import PreparationConfig, PreparedScan
from APELocalizerLib.core.scan.scan import Scan

CHECKPOINT_ID = "made-up@0123456789ab"
TINY_NETWORK = NetworkConfig(channels=(8, 16, 24, 32), depths=((1, 1), (1, 1), (1, 1), 1), layer_scale_init=0.5)
TOWARD_PLI = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Columns: RAS directions of posterior, left and inferior."""


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


def pli_grid(shape: tuple, cell_mm: tuple, center: tuple = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Index-to-RAS matrix of a posterior-left-inferior grid around `center`."""
    affine = np.eye(4)
    affine[:3, :3] = TOWARD_PLI * np.array(cell_mm)
    affine[:3, 3] = np.array(center) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def rotation(axis: int, degrees: float) -> np.ndarray:
    """4x4 rotation about a RAS axis."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [a for a in range(3) if a != axis]
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def smooth_map(
    patient: Patient | None = None,
    shape: tuple = (20, 22, 24),
    cell_mm: tuple = (8.0, 8.0, 12.0),
    center: tuple = (0.0, 0.0, 0.0),
    model_id: str = CHECKPOINT_ID,
    name: str = "made-up scan",
    noise_mm: float = 0.0,
    body: Callable[[np.ndarray], np.ndarray] | None = None,
    turn: np.ndarray | None = None,
) -> EmbeddingMap:
    """Map of a patient: an elliptic cylinder of body along S, air around it, cut by the scan's top and bottom."""
    patient = patient or Patient()
    affine = pli_grid(shape, cell_mm, center)
    if turn is not None:
        affine = turn @ affine
    positions = apply_affine(affine, np.indices(shape).reshape(3, -1).T)
    values = patient.embedding(positions) + np.random.default_rng(5).normal(0, noise_mm or 1e-30, positions.shape)
    half = np.array([shape[1] * cell_mm[1], shape[0] * cell_mm[0]]) / 2 - 1.5 * np.array([cell_mm[1], cell_mm[0]])
    if body is None:
        inside = (((positions[:, :2] - np.array(center)[:2]) / half) ** 2).sum(axis=1) <= 1.0
    else:
        inside = body(positions)
    return EmbeddingMap(
        values=np.where(inside[:, None], values, -900.0).reshape(*shape, 3).astype(np.float32),
        body=inside.reshape(shape),
        grid_to_ras=affine,
        space=CoordinateSpace(model_id),
        spacing="standard",
        field_of_view=Box.around(grid_corners(shape, affine)),
        scan_name=name,
        scan_fingerprint=f"fingerprint of {name}",
    )


CLICKS = {
    "carina": np.array([3.3, -12.7, 61.9]),
    "apex": np.array([-31.2, 14.1, 97.4]),
    "dome": np.array([24.6, 20.3, -40.8]),
}
"""Places in the average body."""


def library_of(*supports: tuple[Patient, EmbeddingMap]) -> LandmarkLibrary:
    """The landmarks of `CLICKS`, clicked on every support exactly where its patient has them."""
    library = LandmarkLibrary()
    for patient, support_map in supports:
        points = {name: patient.place(place) for name, place in CLICKS.items()}
        library = learn_points(library, support_map, points)
    return library


def tiny_model(seed: int = 0, **changes: object) -> Model:
    """Random weights of a very small network: fast, meaningless, deterministic."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = APENetwork(TINY_NETWORK)
        with torch.no_grad():  # so that different places get clearly different outputs
            for convolution in network.head.convs:
                convolution.weight.mul_(4.0)
    settings = {
        "name": "tiny",
        "network": TINY_NETWORK,
        "preparation": PreparationConfig.plain(),
        "state": {key: value.detach().clone() for key, value in network.state_dict().items()},
        "presets": {
            "standard": ((2.0, 2.0, 3.0),),
            "fast": ((4.0, 4.0, 6.0),),
            "both": ((4.0, 4.0, 6.0), (2.0, 2.0, 3.0)),
        },
        "round_trip_threshold_mm": 25.0,
        "license": "none",
        "citation": "none",
        "training_data": "none",
    }
    return Model(**{**settings, **changes})


def prepared_scan(image: np.ndarray, spacing: tuple = (2.0, 2.0, 3.0), mask: np.ndarray | None = None) -> PreparedScan:
    """A prepared scan with the given 0..1 image on a posterior-left-inferior grid."""
    affine = pli_grid(image.shape, spacing)
    return PreparedScan(
        image=image.astype(np.float32),
        body_mask=np.ones(image.shape, bool) if mask is None else mask,
        grid_to_ras=affine,
        field_of_view=Box.around(grid_corners(image.shape, affine)),
        scan_name="made-up scan",
        scan_fingerprint="fingerprint",
    )


def ramp_scan(axis: int, low: float, high: float, ijk_to_ras: np.ndarray, shape: tuple) -> Scan:
    """A scan whose HU rise linearly along one RAS axis: -450 HU at `low` mm, 250 HU at `high` mm. Body everywhere."""
    positions = apply_affine(ijk_to_ras, np.indices(shape).reshape(3, -1).T)[:, axis]
    hu = -450.0 + 700.0 * (positions - low) / (high - low)
    return Scan(hu.reshape(shape).astype(np.float32), ijk_to_ras, "ramp")


def torso_scan(shape: tuple = (44, 40, 36), voxel_mm: float = 4.0, seed: int = 0) -> Scan:
    """An elliptic torso of soft tissue with two lungs and a spine, in air; index axes run along R, A, S."""
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = -voxel_mm * (np.array(shape) - 1) / 2
    x, y, z = (apply_affine(affine, np.indices(shape).reshape(3, -1).T) / voxel_mm).T
    hu = np.full(x.shape, -1000.0)
    hu[(x / 18) ** 2 + (y / 14) ** 2 <= 1] = 40
    for side in (-1, 1):
        hu[((x - 8 * side) / 5) ** 2 + (y / 7) ** 2 + ((z - 8) / 12) ** 2 <= 1] = -850
    hu[(x**2 + (y + 9) ** 2) <= 6] = 400
    hu += np.random.default_rng(seed).normal(0, 10, hu.shape)
    return Scan(hu.reshape(shape).astype(np.int16), affine, "torso")
