"""The network against the published model's parameter list and golden outputs, and its limits."""

import json
import math

import numpy as np
import pytest
import torch

from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from made_up.models import GOLDEN, golden_tensor
from made_up.paths import DATA


@pytest.fixture(scope="module")
def published() -> APENetwork:
    network = APENetwork(NetworkConfig.published())
    state = {
        key: golden_tensor(key, tuple(value.shape), i) for i, (key, value) in enumerate(network.state_dict().items())
    }
    network.load_state_dict(state)
    return network.eval()


@pytest.fixture(scope="module")
def small() -> APENetwork:
    torch.manual_seed(0)
    return APENetwork(NetworkConfig.small()).eval()


def test_published_state_dict_has_the_published_keys_order_and_shapes(published):
    expected = json.loads((DATA / "ape_state_dict.json").read_text(encoding="utf-8"))["keys"]
    assert [[key, list(value.shape)] for key, value in published.state_dict().items()] == expected
    assert sum(p.numel() for p in published.parameters()) == 31_384_351


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=["whole", "odd", "masked"])
def test_published_network_gives_the_golden_outputs(published, case):
    shape = case["input_shape"]
    image = (
        (0.5 + 0.5 * np.sin(0.013 * np.arange(math.prod(shape), dtype=np.float64))).astype(np.float32).reshape(shape)
    )
    visible = None
    if case["masked"]:
        visible = torch.ones(1, *shape[2:])
        visible[:, :24, :24, :16] = 0
        visible[:, 48:72, 24:48, 32:48] = 0
    with torch.inference_mode():
        output = published(torch.from_numpy(image), visible)
    assert list(output.shape) == case["output_shape"]
    np.testing.assert_allclose(output.flatten()[case["flat_indices"]], case["values"], rtol=0, atol=2e-6)
    assert abs(float(output.mean()) - case["mean"]) < 2e-6
    assert abs(float(output.std()) - case["std"]) < 2e-6


def test_an_all_visible_mask_changes_nothing(small):
    image = torch.rand(2, 1, 40, 36, 33)
    with torch.inference_mode():
        assert torch.equal(small(image), small(image, torch.ones(2, 40, 36, 33)))


def test_channels_last_gives_the_same_map(small):
    image = torch.rand(1, 1, 48, 40, 35)
    with torch.inference_mode():
        expected = small(image)
        output = small.to(memory_format=torch.channels_last_3d)(image.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-6)
    assert output.shape == (1, 3, 12, 10, 8)


def test_the_small_network_fits_in_five_megabytes_at_half_precision(small):
    assert sum(p.numel() for p in small.parameters()) <= 2_500_000


def test_a_too_small_image_is_refused_in_words(small):
    with pytest.raises(ValueError, match="too small.*at least 32"):
        small(torch.zeros(1, 1, 31, 64, 64))


def test_config_survives_json():
    for config in (NetworkConfig.published(), NetworkConfig.small()):
        assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="depth_of_sea"):
        NetworkConfig.from_dict({"depth_of_sea": 3})
