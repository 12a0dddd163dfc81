"""Golden vectors of the published network: its outputs for weights that a formula gives."""

import json
import math

import numpy as np
import torch

from made_up.paths import DATA

GOLDEN = json.loads((DATA / "ape_golden.json").read_text(encoding="utf-8"))


def golden_tensor(key: str, shape: tuple[int, ...], position: int) -> torch.Tensor:
    """Deterministic weights by the fill rule of ape_golden.json."""
    base = np.sin(0.37 * np.arange(math.prod(shape), dtype=np.float64) + 1.3 * position)
    if key.endswith(".gamma"):
        values = 0.5 + 0.1 * base
    elif len(shape) == 5:
        values = base / math.sqrt(math.prod(shape[1:]))
    elif key.endswith(".weight"):
        values = 1 + 0.1 * base
    else:
        values = 0.1 * base
    return torch.from_numpy(values.astype(np.float32).reshape(shape))
