"""Per-axis scale of a published model, estimated from scans.

The published network was trained with a learned scale per output channel that was not released. Without it, nearest-
neighbor search weights the channels differently from training. The scale is estimated so that distances between
embeddings fit distances between places in the body, in mm (a few scans are enough; APE paper, Equation 1).
"""

from collections.abc import Sequence

import numpy as np

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.model.model import Model

PAIRS_PER_SCAN = 20_000


def calibrate_scale(model: Model, maps: Sequence[EmbeddingMap], seed: int = 0) -> Model:
    """The model with the scale that fits embedding to body distances on the given scans' maps.

    Least squares of sum_c s_c^2 (a_c - b_c)^2 against |p - q|^2 over random pairs of body cells, with s_c^2 >= 0,
    where a, b are raw network outputs and p, q RAS positions in mm. Raises `ModelError` if a channel carries no
    distance at all.
    """
    if not maps:
        raise ModelError("Calibration needs at least one scan.")
    rng = np.random.default_rng(seed)
    scale = np.array(model.scale)
    squares, targets = [], []
    for embedding_map in maps:
        if embedding_map.model_id != model.id:
            raise ModelError("Calibration needs maps that were computed with the model to be calibrated.")
        cells = np.argwhere(embedding_map.body)
        raw = embedding_map.values[embedding_map.body] / scale
        first, second = rng.integers(0, len(cells), (2, PAIRS_PER_SCAN))
        difference = embedding_map.to_ras(cells[first]) - embedding_map.to_ras(cells[second])
        squares.append((raw[first] - raw[second]) ** 2)
        targets.append((difference**2).sum(axis=1))
    solution = _non_negative_least_squares(np.concatenate(squares), np.concatenate(targets))
    if np.any(solution <= 0):
        raise ModelError("The scans do not determine the model's scale. Use scans that show more of the body.")
    return model.with_scale(tuple(np.sqrt(solution)))


def _non_negative_least_squares(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares with non-negative unknowns; three unknowns, so all subsets of them can be tried."""
    best, best_error = np.zeros(matrix.shape[1]), np.inf
    for chosen in range(1, 2 ** matrix.shape[1]):
        columns = [c for c in range(matrix.shape[1]) if chosen >> c & 1]
        part = np.linalg.lstsq(matrix[:, columns], target, rcond=None)[0]
        if np.any(part < 0):
            continue
        error = ((matrix[:, columns] @ part - target) ** 2).sum()
        if error < best_error:
            best, best_error = np.zeros(matrix.shape[1]), error
            best[columns] = part
    return best
