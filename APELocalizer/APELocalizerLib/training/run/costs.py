"""What a network costs, found without computing anything: on tensors that have shapes but no memory."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from APELocalizerLib.core.model.network_config import NetworkSettings
from APELocalizerLib.core.model.networks import build_network


def parameter_count(config: NetworkSettings) -> int:
    """Number of parameters."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_network(config).parameters())


def training_flops(config: NetworkSettings, shape: tuple[int, ...]) -> float:
    """Floating-point operations of forward and backward on images (N, 1, P, L, I).

    Convolutions and matrix products only, two per multiplication; the backward pass counts as two forward passes.
    """
    with torch.device("meta"):
        network, image = build_network(config), torch.empty(shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return 3.0 * counter.get_total_flops()


def activation_bytes(config: NetworkSettings, shape: tuple[int, ...]) -> int:
    """Bytes (float32) that forward keeps for backward on images (N, 1, P, L, I)."""
    with torch.device("meta"):
        network, image = build_network(config), torch.empty(shape)
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)  # holding it keeps its storage's address its own
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(image)
    kept_bytes = sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in weights)
    del output
    return kept_bytes


def model_bytes(config: NetworkSettings, replicas: int = 1) -> int:
    """Bytes of the weights, their moving average, the optimizer's two moments, and the gradients of all replicas."""
    return 4 * parameter_count(config) * (4 + replicas + (1 if replicas > 1 else 0))
