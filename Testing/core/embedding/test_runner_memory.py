"""When memory runs out or a GPU lacks an operation: smaller batches, smaller tiles, the CPU, and a sentence."""

import dataclasses

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import DeviceError
from APELocalizerLib.core.embedding import runner as inference
from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner
from made_up.networks import LocalNetwork
from made_up.scans import prepared_scan, random_image

SMALL_TILES = InferenceSettings(device="cpu", tile=(32, 32, 32), overlap=0.5, one_pass=False, batch_size=4)


ONE_PASS = InferenceSettings(device="cpu", one_pass=True)


class HungryNetwork(LocalNetwork):
    """Runs out of memory for every batch that `too_big` says is too big; otherwise as `inner`."""

    def __init__(self, too_big, inner=None, text="CUDA out of memory. Tried to allocate 2.00 GiB") -> None:
        super().__init__()
        self.too_big, self.inner, self.text = too_big, (inner,), text  # a tuple, so that it is no submodule

    def forward(self, image, visible=None):
        if self.too_big(image):
            raise torch.cuda.OutOfMemoryError(self.text) if self.text.startswith("CUDA") else RuntimeError(self.text)
        if self.inner[0] is not None:
            self.seen.append(tuple(image.shape))
            return self.inner[0](image, visible)
        return super().forward(image, visible)


def test_a_smaller_batch_helps_when_memory_runs_out(using, model):
    image = prepared_scan(random_image((64, 64, 40)))
    plain = Runner(model, SMALL_TILES).embed(image)
    network = using(HungryNetwork(lambda batch: len(batch) > 1, model.build_network()))
    made = Runner(model, SMALL_TILES).embed(image)
    np.testing.assert_allclose(made.values, plain.values, atol=1e-5)
    assert {shape[0] for shape in network.seen} == {1}
    assert made.notes == tuple(f"Memory ran out: {n} tile(s) at a time were embedded." for n in (2, 1))


def test_smaller_tiles_help_when_a_smaller_batch_does_not(using, model):
    image = prepared_scan(random_image((96, 96, 64)))
    using(LocalNetwork())
    plain = Runner(model, InferenceSettings(device="cpu", one_pass=False)).embed(image)
    network = using(HungryNetwork(lambda batch: batch[0].numel() > 64 * 64 * 32))
    made = Runner(model, InferenceSettings(device="cpu", one_pass=False)).embed(image)
    np.testing.assert_allclose(made.values, plain.values, atol=1e-6)
    assert set(network.seen) == {(1, 1, 64, 64, 32)}
    assert "smaller tiles (64x64x32)" in made.notes[-1]


def test_one_pass_falls_back_to_tiles(using, model):
    image = prepared_scan(random_image((64, 64, 64)))
    network = using(HungryNetwork(lambda batch: batch.shape[2] > 32))
    settings = InferenceSettings(device="cpu", tile=(32, 32, 32), one_pass=True)
    made = Runner(model, settings).embed(image)
    expected = image.image.reshape(16, 4, 16, 4, 16, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(made.values[..., 0], expected, atol=1e-6)
    assert made.notes == ("Memory ran out: the scan was embedded in tiles.",)
    assert set(network.seen) == {(1, 1, 32, 32, 32)}


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "MPS backend out of memory (MPS allocated: 8 GB)",
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes",
    ],
)
def test_every_way_to_say_out_of_memory_is_understood(using, model, text):
    using(HungryNetwork(lambda batch: len(batch) > 1, text=text))
    assert Runner(model, SMALL_TILES).embed(prepared_scan(random_image((64, 32, 32)))).notes


def test_the_cpu_is_the_last_resort_of_a_gpu(using, model, monkeypatch):
    """A device without memory stands in for the GPU."""
    monkeypatch.setattr(inference, "resolve_device", lambda name: torch.device("meta"))
    network = using(HungryNetwork(lambda batch: batch.device.type == "meta"))
    image = prepared_scan(random_image((64, 48, 40)))
    made = Runner(model, InferenceSettings(tile=(32, 32, 32), one_pass=False)).embed(image)
    expected = image.image.reshape(16, 4, 12, 4, 10, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(made.values[..., 0], expected, atol=1e-6)
    assert made.notes[-1] == "The GPU's memory ran out: the CPU was used."
    assert len(network.seen) > 0
    with pytest.raises(DeviceError, match="not enough memory"):
        Runner(model, InferenceSettings(tile=(32, 32, 32), one_pass=False, cpu_fallback=False)).embed(image)


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("The operator 'aten::max_pool3d' is not currently implemented for MPS"),
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
    ],
)
def test_the_cpu_helps_where_the_gpu_lacks_an_operation(using, model, monkeypatch, error):
    """PyTorch's MPS had no 3-D pooling for years; its CUDA builds leave old GPUs out."""
    monkeypatch.setattr(inference, "resolve_device", lambda name: torch.device("meta"))

    class Lacking(LocalNetwork):
        def forward(self, image, visible=None):
            if image.device.type == "meta":
                raise error
            return super().forward(image, visible)

    using(Lacking())
    image = prepared_scan(random_image((32, 32, 32)))
    made = Runner(model, SMALL_TILES).embed(image)
    np.testing.assert_allclose(made.values[..., 0], image.image.reshape(8, 4, 8, 4, 8, 4).mean((1, 3, 5)), atol=1e-6)
    assert made.notes == ("The GPU lacks an operation: the CPU was used.",)
    with pytest.raises(type(error)):
        Runner(model, dataclasses.replace(SMALL_TILES, cpu_fallback=False)).embed(image)


def test_when_nothing_helps_the_error_says_what_to_do(using, model):
    attempts = []
    using(HungryNetwork(lambda batch: attempts.append(1) or True))
    with pytest.raises(DeviceError, match="not enough memory.*coarser spacing"):
        Runner(model, ONE_PASS).embed(prepared_scan(random_image((64, 64, 40))))
    assert len(attempts) < 10


def test_other_errors_are_not_taken_for_a_lack_of_memory(using, model):
    using(HungryNetwork(lambda batch: True, text="expected scalar type Half but found Float"))
    with pytest.raises(RuntimeError, match="expected scalar type"):
        Runner(model, SMALL_TILES).embed(prepared_scan(random_image((32, 32, 32))))
