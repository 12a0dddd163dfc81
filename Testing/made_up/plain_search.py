"""The slow and plain way to search in a map and to continue it: what the fast way is compared with."""

import itertools

import numpy as np

CANDIDATES = 12
STEPS = 12


def plain_extension(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`extend_from_mask`, one cell and one neighbor after the other."""
    known = {tuple(cell): values[tuple(cell)].astype(np.float64) for cell in np.argwhere(mask)}
    shape = np.array(mask.shape)
    for layer in range(2):
        added = {}
        for cell in itertools.product(*(range(-1, n + 1) for n in shape)):
            neighbors = [_at(cell, step) for step in itertools.product((-1, 0, 1), repeat=3)]
            around = [known[each] for each in neighbors if each in known]
            if cell in known or not around:
                continue
            slopes = []
            for axis, sign in itertools.product(range(3), (1, -1)):
                step = sign * np.eye(3, dtype=int)[axis]
                if _at(cell, step) in known and _at(cell, 2 * step) in known:
                    slopes.append(2 * known[_at(cell, step)] - known[_at(cell, 2 * step)])
            added[cell] = np.mean(slopes if slopes and layer == 0 else around, axis=0)
        known |= added
    result = np.zeros((*(shape + 2), values.shape[3]))
    for cell, value in known.items():
        result[_at(cell, (1, 1, 1))] = value
    return result


def _at(cell, step) -> tuple:
    return tuple(int(c + s) for c, s in zip(cell, step, strict=True))


class PlainSearch:
    """Every query against every body cell; the twelve nearest are all refined, with every step, in double precision."""

    def __init__(self, embedding_map) -> None:
        self.map = embedding_map
        self.cells = np.argwhere(embedding_map.body)
        self.embeddings = embedding_map.values[embedding_map.body].astype(np.float64)
        self.extended = embedding_map._extended.astype(np.float64)

    def answers(self, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places (k, 3) RAS mm and distances (k,) that the nearest cells lead to, the nearest cell's first."""
        order = np.argsort(np.linalg.norm(self.embeddings - query, axis=1), kind="stable")[:CANDIDATES]
        indices, distances = self.refined(self.cells[order].astype(float), query)
        return self.map.to_ras(indices), distances

    def refined(self, start: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Levenberg-Marquardt within one cell of each start, and within half a cell of the outermost cells."""
        low, high = np.maximum(start - 1, -0.5), np.minimum(start + 1, np.array(self.map.body.shape) - 0.5)
        at, damping = start.copy(), np.full(len(start), 1e-3)
        value, slope = self.read(at)
        error = ((query - value) ** 2).sum(axis=1)
        for _ in range(STEPS):
            transposed = slope.transpose(0, 2, 1)
            normal = transposed @ slope
            scale = np.trace(normal, axis1=1, axis2=2) / 3 + 1e-9
            normal += (damping * scale)[:, None, None] * np.eye(3)
            step = np.linalg.solve(normal, transposed @ (query - value)[..., None])[..., 0]
            trial = np.clip(at + step, low, high)
            trial_value, trial_slope = self.read(trial)
            trial_error = ((query - trial_value) ** 2).sum(axis=1)
            better = trial_error < error
            at[better], error[better] = trial[better], trial_error[better]
            value[better], slope[better] = trial_value[better], trial_slope[better]
            damping = np.where(better, damping * 0.3, damping * 10)
        return at, np.sqrt(error)

    def distinguishes(self, point: np.ndarray) -> bool:
        """Whether the map changes by at least 0.05 mm per mm in every direction at a place (3,)."""
        _, slope = self.read(self.map.to_index(point))
        per_mm = slope[0] @ np.linalg.inv(self.map.grid_to_ras[:3, :3])
        return np.linalg.svd(per_mm, compute_uv=False).min() > 0.05

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (n, 3) and derivatives (n, channel, axis) of the map at fractional cell indices (n, 3)."""
        base = np.floor(indices + 1).astype(int)
        fraction = indices + 1 - base
        value, slope = np.zeros((len(indices), 3)), np.zeros((len(indices), 3, 3))
        for corner in np.ndindex(2, 2, 2):
            held = self.extended[tuple((base + corner).T)]
            weights = np.where(corner, fraction, 1 - fraction)
            value += weights.prod(axis=1)[:, None] * held
            for axis in range(3):
                others = np.delete(weights, axis, axis=1).prod(axis=1)
                slope[:, :, axis] += (1 if corner[axis] else -1) * others[:, None] * held
        return value, slope
