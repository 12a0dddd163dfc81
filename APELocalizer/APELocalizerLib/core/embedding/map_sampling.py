"""Full-resolution embedding map on any grid, slab by slab so that memory stays bounded."""

import numpy as np

from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.trilinear import PAD

POINTS_PER_SLAB = 4_000_000


def sample_on_grid(
    embedding_map: EmbeddingMap,
    shape: tuple[int, int, int],
    ijk_to_ras: np.ndarray,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> np.ndarray:
    """Return the map on a grid: (i, j, k, channels) float32 in embedding mm, NaN outside the body.

    `shape` and `ijk_to_ras` describe the grid (for the scan's own: `scan.voxels.shape`, `scan.ijk_to_ras`). Between
    cells the map is trilinear, as the published network's read-out (APE paper, section 2.1). The map ends half a cell
    beyond its outermost cells: what the preparation cropped off the scan is air.
    """
    import torch

    body = np.pad(embedding_map.body, PAD)[..., None].astype(np.float32)
    layers = np.concatenate([embedding_map._extended, body], axis=3)
    source = torch.from_numpy(np.ascontiguousarray(layers.transpose(3, 0, 1, 2)))[None]
    to_cell = np.linalg.inv(embedding_map.grid_to_ras) @ np.asarray(ijk_to_ras, dtype=np.float64)
    size = np.array(layers.shape[:3])
    # grid_sample wants (x, y, z) = (last, ..., first axis) in -1..1 over the outer cell borders
    to_unit = np.diag(np.append(2.0 / size, 1.0)) @ np.array(
        [[1, 0, 0, PAD + 0.5], [0, 1, 0, PAD + 0.5], [0, 0, 1, PAD + 0.5], [0, 0, 0, 1.0]]
    )
    to_unit[:3, 3] -= 1.0
    matrix = torch.from_numpy((to_unit @ to_cell)[[2, 1, 0]].astype(np.float32))
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    result = np.empty((*shape, embedding_map.channels), dtype=np.float32)
    rows = max(1, POINTS_PER_SLAB // (shape[1] * shape[2]))
    for start in range(0, shape[0], rows):
        check_cancelled(cancelled)
        slab = axes[0][start : start + rows]
        grid = (
            matrix[:, 0] * slab[:, None, None, None]
            + matrix[:, 1] * axes[1][None, :, None, None]
            + matrix[:, 2] * axes[2][None, None, :, None]
            + matrix[:, 3]
        )
        read = torch.nn.functional.grid_sample(source, grid[None], padding_mode="border", align_corners=False)[0]
        inside = (read[-1] >= 0.5)[..., None].numpy()
        result[start : start + rows] = np.where(inside, read[:-1].permute(1, 2, 3, 0).numpy(), np.nan)
        report(progress, min(1.0, (start + rows) / shape[0]), "Drawing the map")
    return result
