"""The network arranged for inference gives what the network itself gives."""

import json
import math

import numpy as np
import pytest
import torch

from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner
from APELocalizerLib.core.model.folded_network import FoldedNetwork
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from made_up.models import GOLDEN, golden_tensor, tiny_model
from made_up.paths import DATA
from made_up.scans import prepared_scan

KEYS = json.loads((DATA / "ape_state_dict.json").read_text(encoding="utf-8"))["keys"]
TINY = {"channels": (8, 16, 24, 32), "depths": ((2, 1), (1, 2), (1, 1), 2)}


def lively(config: NetworkConfig) -> APENetwork:
    """A network in which no norm, layer scale or bias is neutral, so that none can be forgotten unnoticed."""
    torch.manual_seed(1)
    network = APENetwork(config).eval().requires_grad_(False)
    for key, value in network.named_parameters():
        if "norm" in key or key.endswith("gamma"):
            value.copy_(0.7 + 0.5 * torch.rand_like(value))
        elif key.endswith("bias"):
            value.copy_(0.2 * torch.randn_like(value))
    return network


@pytest.fixture(scope="module")
def tiny() -> APENetwork:
    return lively(NetworkConfig(**TINY))


@pytest.fixture(scope="module")
def folded_published() -> FoldedNetwork:
    network = APENetwork(NetworkConfig.published())
    network.load_state_dict({key: golden_tensor(key, tuple(shape), i) for i, (key, shape) in enumerate(KEYS)})
    return FoldedNetwork(network)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=["whole", "odd", "masked"])
def test_the_folded_published_network_gives_the_golden_outputs(folded_published, case):
    shape = case["input_shape"]
    image = (0.5 + 0.5 * np.sin(0.013 * np.arange(math.prod(shape)))).astype(np.float32).reshape(shape)
    visible = None
    if case["masked"]:
        visible = torch.ones(1, *shape[2:])
        visible[:, :24, :24, :16] = 0
        visible[:, 48:72, 24:48, 32:48] = 0
    output = folded_published(torch.from_numpy(image), visible)
    assert list(output.shape) == case["output_shape"]
    np.testing.assert_allclose(output.flatten()[case["flat_indices"]], case["values"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(32, 32, 32), (35, 47, 66), (64, 44, 37), (71, 33, 40)])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_network_at_every_size(tiny, size, masked):
    """Odd sizes at every level, where cells at the end are dropped on the way down and repeated on the way up."""
    image = torch.rand(2, 1, *size)
    visible = (torch.rand(2, *size) > 0.4).float() if masked else None
    if masked:
        visible[0, :20, 8:] = 0
    with torch.inference_mode():
        expected = tiny(image, visible)
    output = FoldedNetwork(tiny)(image, visible)
    assert output.shape == expected.shape and expected.std() > 0.01
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-6)


def test_a_network_without_a_mask_token_is_folded_too():
    network = lively(NetworkConfig(**TINY, mask_token=False))
    image, visible = torch.rand(1, 1, 40, 36, 33), (torch.rand(1, 40, 36, 33) > 0.5).float()
    with torch.inference_mode():
        expected = network(image), network(image, visible)
    folded = FoldedNetwork(network)
    for output, wanted in zip((folded(image), folded(image, visible)), expected, strict=True):
        torch.testing.assert_close(output, wanted, rtol=0, atol=2e-6)


def test_more_cells_than_are_computed_at_a_time(tiny, monkeypatch):
    monkeypatch.setattr("APELocalizerLib.core.model.folded_network.HIDDEN_NUMBERS", 100 * 32)
    image = torch.rand(1, 1, 40, 36, 34)
    with torch.inference_mode():
        expected = tiny(image)
    torch.testing.assert_close(FoldedNetwork(tiny)(image), expected, rtol=0, atol=2e-6)


def test_layout_and_weights_are_left_alone(tiny):
    image = torch.rand(1, 1, 33, 40, 36)
    transposed = image.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2)
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    folded = FoldedNetwork(tiny)
    torch.testing.assert_close(folded(transposed), folded(image), rtol=0, atol=1e-6)
    assert torch.equal(folded(image), folded(image)), "the same input gives the same bits"
    assert all(torch.equal(value, before[key]) for key, value in tiny.state_dict().items())


def test_half_precision_stays_near(tiny):
    image = torch.rand(1, 1, 48, 40, 36)
    with torch.inference_mode():
        expected = tiny(image)
    output = FoldedNetwork(tiny, half=True)(image)
    assert output.dtype == torch.float32
    assert 0 < (output - expected).abs().max() < 0.01


def test_a_too_small_image_is_refused_as_by_the_network(tiny):
    with pytest.raises(ValueError, match="too small.*at least 32"):
        FoldedNetwork(tiny)(torch.zeros(1, 1, 31, 64, 64))


@pytest.mark.parametrize("one_pass", [False, True])
@pytest.mark.parametrize("padding", ["mask", "edge"])
def test_the_runner_gives_the_plain_networks_map(monkeypatch, one_pass, padding):
    """Against the same runner with the network as it is built, which is no longer taken for one that can be folded."""
    model = tiny_model(padding=padding)
    settings = InferenceSettings(device="cpu", tile=(32, 32, 32), one_pass=one_pass)
    prepared = prepared_scan(np.random.default_rng(0).random((45, 30, 52), dtype=np.float32))
    found = Runner(model, settings).embed(prepared).values
    build = Model.build_network

    class Plain(torch.nn.Module):
        def __init__(self, network) -> None:
            super().__init__()
            self.network = network

        def forward(self, image, visible=None):
            return self.network(image, visible)

    monkeypatch.setattr(Model, "build_network", lambda self: Plain(build(self)))
    expected = Runner(model, settings).embed(prepared).values
    np.testing.assert_allclose(found, expected, atol=2e-6 * model.scale[0])
