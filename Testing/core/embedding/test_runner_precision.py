"""In half precision, or on a GPU, a map is nearly the same."""

import dataclasses

import numpy as np
import pytest
import torch

from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner
from APELocalizerLib.core.model import folded_network
from made_up.scans import prepared_scan, random_image

SMALL_TILES = InferenceSettings(device="cpu", tile=(32, 32, 32), overlap=0.5, one_pass=False, batch_size=4)


@pytest.mark.parametrize("one_pass", [False, True])
def test_half_precision_on_the_cpu_is_a_choice_and_close(model, one_pass):
    image = prepared_scan(random_image((40, 36, 44)))
    settings = dataclasses.replace(SMALL_TILES, one_pass=one_pass)
    full, unset, half = (
        Runner(model, dataclasses.replace(settings, mixed_precision=choice)).embed(image).values
        for choice in (False, None, True)
    )
    np.testing.assert_array_equal(unset, full)
    assert 0 < np.abs(half - full).max() < 0.01


@pytest.mark.parametrize("able", [False, True])
def test_wide_networks_use_bfloat16_where_the_processor_is_made_for_it(model, monkeypatch, able):
    monkeypatch.setattr(folded_network, "multiplies_bfloat16", lambda: able)
    monkeypatch.setattr(folded_network, "WIDE", model.network.channels[0])
    image = prepared_scan(random_image((40, 36, 44)))
    unset, expected = (
        Runner(model, dataclasses.replace(SMALL_TILES, mixed_precision=choice)).embed(image).values
        for choice in (None, able)
    )
    np.testing.assert_array_equal(unset, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_mixed_precision_on_a_gpu_is_close_to_the_cpu(model):
    image = prepared_scan(random_image((96, 96, 64)))
    gpu = Runner(model, InferenceSettings(device="cuda", one_pass=False)).embed(image)
    cpu = Runner(model, InferenceSettings(device="cpu", one_pass=False)).embed(image)
    np.testing.assert_allclose(gpu.values, cpu.values, atol=5e-3)
