"""Models without a training: tiny ones with random weights, and the published network with weights from a formula."""

import json
import math

import numpy as np
import torch

from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from APELocalizerLib.core.preparation.config import PreparationConfig
from made_up.paths import DATA

MODEL_ID = "made-up@0123456789ab"
TINY_NETWORK = NetworkConfig(channels=(8, 12, 16, 16), depths=((1, 1), (1, 1), (1, 1), 1), layer_scale_init=0.5)

GOLDEN = json.loads((DATA / "ape_golden.json").read_text(encoding="utf-8"))
"""The published network's outputs for the weights of `golden_tensor`."""


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


def plain_model(**changes: object) -> Model:
    """A tiny model whose maps hold what its network says, in 0..1; what was padded is hidden from the network."""
    return tiny_model(**{"scale": (1.0, 1.0, 1.0), "padding": "mask", **changes})


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


def rich_model() -> Model:
    """A model in which nothing has its default value."""
    return tiny_model(
        name="rich",
        preparation=PreparationConfig(base_spacing=(1.5, 1.5, 2.0), window=(-900, 250), clahe_clip_limit=0.02),
        presets={"standard": ((2, 2, 3),), "both": ((4, 4, 6), (2, 2, 3))},
        scale=(400.0, 500.5, 600.25),
        offset=(-1.5, 0.25, 7.0),
        anchored=True,
        one_pass=True,
        padding="edge",
        round_trip_threshold_mm=33.25,
        license="MIT",
        citation="Müller et al.",
        training_data="ten scans",
    )
