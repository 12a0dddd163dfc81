"""Training in bfloat16 follows training in float32, where the machine can."""

import pytest
import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.model.network import APENetwork
from APELocalizerLib.training.objectives.heads import TrainedNetwork
from APELocalizerLib.training.run import machine
from APELocalizerLib.training.run.machine import precision_for
from made_up.trainings import TINY, run

CPU = torch.device("cpu")


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this CPU has no bfloat16")
def test_bfloat16_follows_float32(config, tmp_path, unvalidated):
    _, exact = run(config)
    trainer, rounded = run(config.changed(output=str(tmp_path / "bf16"), precision="bf16"))
    assert rounded != exact and rounded == pytest.approx(exact, rel=0.05)
    assert next(trainer.network.parameters()).dtype == torch.float32


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this CPU has no bfloat16")
@pytest.mark.parametrize("cells", [1, 2, 3])
def test_gradients_of_depthwise_kernels_in_bfloat16_follow_those_in_float32(cells):
    """Whatever the number of the deepest cells along the first axis: PyTorch leaves those of two unset."""
    torch.manual_seed(0)
    network = APENetwork(TINY).to(memory_format=torch.channels_last_3d)
    images = torch.rand(2, 1, 32 * cells, 32, 64)
    gradients = []
    for precision in ("fp32", "bf16", "bf16"):
        network.zero_grad()
        TrainedNetwork(network, None, precision)(images, torch.ones(2, *images.shape[2:])).diff(
            dim=-1
        ).square().sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in network.named_parameters()})
    exact, rounded, again = gradients
    for name, gradient in exact.items():
        torch.testing.assert_close(again[name], rounded[name], rtol=0, atol=0, msg=name)
        if name.endswith("conv_1.weight"):
            assert (rounded[name] - gradient).norm() < 0.2 * gradient.norm(), name


def test_a_machine_without_bfloat16_says_so(monkeypatch):
    monkeypatch.setattr(machine, "_cpu_has", lambda name: False)
    assert precision_for("auto", CPU) == precision_for("fp32", CPU) == "fp32"
    with pytest.raises(TrainingError, match="no bfloat16"):
        precision_for("bf16", CPU)


@pytest.mark.parametrize(("hip", "capability", "fast"), [(None, 7, False), (None, 8, True), ("6.2", 7, True)])
def test_gpus_with_fast_bfloat16_are_known_by_their_capability(monkeypatch, hip, capability, fast):
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capability, 5))
    monkeypatch.delattr(torch.cuda, "is_bf16_supported")  # it counts emulation as support
    assert machine.has_fast_bf16(torch.device("cuda")) is fast
