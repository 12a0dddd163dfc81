"""Training scans in memory: prepared volume, body mask, canonical targets, landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from APELocalizerLib.core.annotations.marks import read_labels
from APELocalizerLib.core.base.errors import AnnotationError, ScanError
from APELocalizerLib.core.base.geometry import shape_of
from APELocalizerLib.core.preparation.body import body_box
from APELocalizerLib.core.preparation.orientation import flipped, is_oblique
from APELocalizerLib.core.scan.label_map import read_label_map as read_labels_of
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.training.data.average_patient import AveragePatient, Frame
from APELocalizerLib.training.data.label_maps import OrganLabels
from APELocalizerLib.training.data.synthetic import fill_body

HU_LOW, HU_RANGE = -1000.0, 1300.0
"""Image unit: 0 at -1000 HU, 1 at +300 HU; values above 1 are kept so that the window can be jittered."""
LOW_PASS = (0.0, 0.32, 0.58, 0.87)
"""Gaussian low-pass (voxels of the 2 x 2 x 3 mm base grid) for sampling at about 1, 1.5, 2 and 3 times its spacing."""
LEVEL_SPACING = (2.2, 3.0, 4.0, 6.0)
"""In-plane spacing (mm) that each low-pass is meant for."""
_KNOT = 6

OBLIQUE = "“{}” has an oblique grid, which training does not read. Resample it along the body's axes first."
"""Said of scans and label maps in a folder that is laid out for training."""


def _no_points() -> Tensor:
    return torch.zeros(0, 3, dtype=torch.float64)


@dataclass
class TrainingScan:
    """One scan ready for sampling.

    levels: images (1, 1, P, L, I) at increasing low-pass, or for a label map one tensor of labels; float32 or float16.
    body: (1, 1, P, L, I), bool or float. grid_to_ras: (4, 4). target: (1, 6, p, l, i) canonical mm and 1/variance-like
    weights, on knots that span the volume corner to corner. landmarks: RAS (n, 3); goals: canonical (n, 3).
    """

    name: str
    patient: str
    levels: list[Tensor]
    body: Tensor
    grid_to_ras: np.ndarray
    names: dict[str, Tensor] = field(default_factory=dict)
    target: Tensor | None = None
    landmark_names: tuple[str, ...] = ()
    landmarks: Tensor = field(default_factory=_no_points)
    goals: Tensor = field(default_factory=_no_points)
    label_names: Mapping[int, str] | None = None
    share: float = 1.0

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size (3,) in mm along P, L, I."""
        return np.linalg.norm(self.grid_to_ras[:3, :3], axis=0)

    @cached_property
    def body_extent(self) -> tuple[tuple[int, int], ...]:
        """First and last voxel of the body's box along P, L, I, as the preparation of scans finds it (no tables)."""
        if self.label_names is None:
            stack = (self.levels[0][0, 0].float().numpy() * HU_RANGE + HU_LOW).transpose(2, 0, 1)
            box = body_box(stack, self.spacing[[2, 0, 1]], -500.0)
            if box is not None:
                return tuple((box[axis].start, box[axis].stop - 1) for axis in (1, 2, 0))
        extent = []
        for axis in range(3):
            used = np.flatnonzero(self.body[0, 0].amax(dim=tuple(a for a in range(3) if a != axis)).numpy() > 0)
            extent.append((int(used[0]), int(used[-1])))
        return tuple(extent)

    @property
    def targets(self) -> Tensor:
        """The target of a scan that has one; raises ValueError for a scan without a frame."""
        if self.target is None:
            raise ValueError(f"{self.name} has no coordinates to learn.")
        return self.target

    def move(self, device: torch.device) -> None:
        """Bring all tensors that crops are drawn from to a device."""
        _ = self.body_extent  # found on the CPU, once
        self.levels = [level.to(device) for level in self.levels]
        self.body = self.body.to(device)
        self.target = None if self.target is None else self.target.to(device)

    @property
    def nbytes(self) -> int:
        """Memory of the tensors that crops are drawn from."""
        return sum(tensor.nbytes for tensor in (*self.levels, self.body, self.target) if tensor is not None)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along P, L, I."""
        return shape_of(self.body.shape[2:])


def read_ct(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A scan's HU (P, L, I) and its grid_to_ras (4, 4); axes must be the world's up to flips and order.

    Raises `ScanError` for a file that is damaged or no CT, and for an oblique grid.
    """
    scan = read_scan(path)
    if is_oblique(scan.ijk_to_ras):
        raise ScanError(OBLIQUE.format(path.name))
    voxels, grid_to_ras = flipped(scan.voxels, scan.ijk_to_ras)
    return np.ascontiguousarray(voxels), grid_to_ras


def body_mask(voxels: np.ndarray, threshold: float = -500.0) -> np.ndarray:
    """All voxels that air (HU below the threshold) from the first corner does not reach; (P, L, I) bool."""
    air = np.pad(voxels < threshold, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    regions, _ = ndimage.label(air, np.ones((3, 3, 3)))
    return (regions != regions[0, 0, 0])[1:-1, 1:-1]


def scan_from_ct(name: str, patient: str, voxels: np.ndarray, grid_to_ras: np.ndarray) -> TrainingScan:
    """A training scan from HU (P, L, I)."""
    image = np.clip((voxels.astype(np.float32) - HU_LOW) / HU_RANGE, 0.0, 1.6)
    body = torch.from_numpy(body_mask(voxels).astype(np.float32))[None, None]
    return TrainingScan(name, patient, low_passed(image), body, grid_to_ras)


def low_passed(image: np.ndarray) -> list[Tensor]:
    """An image (P, L, I) at all levels of low-pass, each (1, 1, P, L, I)."""
    levels = []
    for sigma in LOW_PASS:
        smooth = image if sigma == 0 else ndimage.gaussian_filter(image, sigma, truncate=3.0)
        levels.append(torch.from_numpy(np.ascontiguousarray(smooth))[None, None])
    return levels


def scan_from_labels(
    name: str, patient: str, labels: np.ndarray, grid_to_ras: np.ndarray, names: Mapping[int, str]
) -> TrainingScan:
    """A training scan that is painted from labels (P, L, I) at each use."""
    spacing = tuple(np.linalg.norm(grid_to_ras[:3, :3], axis=0))
    used = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    filled = fill_body(labels, names, spacing)
    grid = grid_to_ras.copy()
    grid[:3, 3] += grid[:3, 2] * used[0]
    tensor = torch.from_numpy(filled.astype(np.float32))[None, None]
    return TrainingScan(name, patient, [tensor], (tensor > 0).float(), grid, label_names=dict(names))


def read_label_map(path: Path) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Labels (P, L, I), grid_to_ras and names of `X_seg.nii.gz` with `X_labels.json` beside it.

    Raises `AnnotationError` where one of the two is missing or damaged, and for an oblique grid.
    """
    label_map = read_labels_of(path)
    if is_oblique(label_map.ijk_to_ras):
        raise AnnotationError(OBLIQUE.format(path.name))
    labels, grid_to_ras = flipped(label_map.labels, label_map.ijk_to_ras)
    names = read_labels(path.with_name(path.name.replace("_seg.nii.gz", "_labels.json")))
    return np.ascontiguousarray(labels), grid_to_ras, names


def ct_scan(name: str, patient: str, path: Path) -> TrainingScan:
    """The training scan of a CT's file. Raises `ScanError` as `read_ct` does."""
    return scan_from_ct(name, patient, *read_ct(path))


def painted_scan(name: str, path: Path) -> TrainingScan:
    """The training scan of a label map's file, which is painted anew for every crop."""
    return scan_from_labels(name, name, *read_label_map(path))


def organ_labels_of(path: Path) -> OrganLabels:
    """The label map of a file, for its observations."""
    voxels, grid, names = read_label_map(path)
    return OrganLabels(voxels, grid, names)


def add_targets(scan: TrainingScan, frame: Frame, trust_mm: float = 8.0) -> None:
    """Evaluate a frame on knots over the scan: canonical coordinates and weights trust^2 / (trust^2 + variance)."""
    axes = [np.linspace(0, n - 1, max(2, int(np.ceil((n - 1) / _KNOT)) + 1)) for n in scan.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    points = index @ scan.grid_to_ras[:3, :3].T + scan.grid_to_ras[:3, 3]
    values = np.empty((len(points), 6), np.float32)
    for start in range(0, len(points), 4096):
        part = points[start : start + 4096]
        values[start : start + 4096, :3] = frame(part)
        values[start : start + 4096, 3:] = trust_mm**2 / (trust_mm**2 + frame.variance(part))
    shape = [len(axis) for axis in axes]
    scan.target = torch.from_numpy(values.reshape(*shape, 6)).permute(3, 0, 1, 2)[None].contiguous()


def add_landmarks(scan: TrainingScan, points: Mapping[str, np.ndarray], patient: AveragePatient) -> None:
    """Give a scan the landmarks whose canonical position is known."""
    known = [name for name in points if patient.point(name) is not None]
    scan.landmark_names = tuple(known)
    scan.landmarks = torch.tensor(np.array([points[name] for name in known], float).reshape(-1, 3))
    scan.goals = torch.tensor(np.array([patient.point(name) for name in known], float).reshape(-1, 3))
