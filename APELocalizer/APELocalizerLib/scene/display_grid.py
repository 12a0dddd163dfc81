"""The coarsened grid of a scan on which overlays are drawn, and the outline of the body on it."""

from dataclasses import dataclass

import numpy as np
import slicer.util
import vtk
from scipy import ndimage

from APELocalizerLib.core.base.geometry import Box, apply_affine, spacing_of, subgrid_affine
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.scene.nodes import VolumeNode
from APELocalizerLib.scene.volumes import ijk_to_world, scan_from_volume_node

BODY_HU = -500.0


@dataclass(frozen=True)
class DisplayGrid:
    """Every n-th voxel of a scan: HU (i, j, k), 4x4 index→volume coordinates and index→RAS world."""

    hu: np.ndarray
    ijk_to_local: np.ndarray
    ijk_to_world: np.ndarray

    @property
    def axial_axis(self) -> int:
        """The grid axis that runs nearest to the patient's height."""
        return int(np.argmax(np.abs(self.ijk_to_world[2, :3]) / spacing_of(self.ijk_to_world)))


def coarse_grid(volume_node: VolumeNode, voxel_mm: float) -> DisplayGrid:
    """Grid of a CT volume node with voxels of about `voxel_mm` where its own are smaller. Errors as the scan's."""
    scan = scan_from_volume_node(volume_node)
    steps = np.maximum(1, np.round(voxel_mm / spacing_of(scan.ijk_to_ras))).astype(int)
    steps = np.minimum(steps, scan.voxels.shape)
    start = (steps - 1) // 2
    hu = scan.voxels[tuple(slice(first, None, step) for first, step in zip(start, steps, strict=True))]
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    local = slicer.util.arrayFromVTKMatrix(matrix)
    return DisplayGrid(hu, subgrid_affine(local, start, steps), subgrid_affine(ijk_to_world(volume_node), start, steps))


def body_outline(embedding_map: EmbeddingMap, grid: DisplayGrid) -> np.ndarray:
    """Body (i, j, k) bool: soft tissue and all that it encloses on axial slices, at or beside the map's body cells.

    The map's own mask is as coarse as its cells (10 to 15 mm); this outline is the scan's own.
    """
    near = ndimage.binary_dilation(embedding_map.body).astype(np.float32)
    to_cell = np.linalg.inv(embedding_map.grid_to_ras) @ grid.ijk_to_world
    near = ndimage.affine_transform(
        near, to_cell[:3, :3], to_cell[:3, 3], output_shape=grid.hu.shape, order=1, mode="nearest"
    )
    body = (grid.hu > BODY_HU) & (near > 0.5)
    slices = np.moveaxis(body, grid.axial_axis, 0)  # a view: filling it fills `body`
    for index in range(len(slices)):
        slices[index] = ndimage.binary_opening(ndimage.binary_fill_holes(slices[index]))
    return large_parts(body)


def large_parts(mask: np.ndarray) -> np.ndarray:
    """Connected parts of at least a twentieth of the largest: the trunk and arms, without crumbs of the table."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= sizes.max() / 20)[labels] & mask


def body_bounds(volume_node: VolumeNode, voxel_mm: float = 4.0) -> Box:
    """Box in RAS world mm around the large connected soft tissue of a scan; the whole scan's if there is none."""
    grid = coarse_grid(volume_node, voxel_mm)
    body = large_parts(ndimage.binary_opening(grid.hu > BODY_HU))
    return Box.around(apply_affine(grid.ijk_to_world, np.argwhere(body if body.any() else np.ones_like(body))))
