"""Counted costs of a network are those of the real one."""

import pytest
import torch

from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from APELocalizerLib.training.run.costs import activation_bytes, parameter_count, training_flops
from made_up.trainings import TINY


def test_costs_are_those_of_the_real_network():
    """Published figures: 31 384 351 parameters, 13.417 GFLOP forward for 96 x 96 x 64 voxels."""
    assert parameter_count(NetworkConfig.published()) == 31_384_351
    assert training_flops(NetworkConfig.published(), (1, 1, 96, 96, 64)) == pytest.approx(3 * 13.417e9, rel=1e-3)
    kept = []
    network, image = APENetwork(TINY), torch.rand(2, 1, 32, 40, 48)
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        network(image)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    expected = sum(size for address, size in storages.items() if address not in own)
    assert activation_bytes(TINY, (2, 1, 32, 40, 48)) == pytest.approx(expected, rel=0.05)
