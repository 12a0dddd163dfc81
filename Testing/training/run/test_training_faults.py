"""What can go wrong in a training: damaged files, steps without finite gradients, too little memory."""

import copy

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import DeviceError, TrainingError
from APELocalizerLib.training.objectives.anchored import AnchoredObjective
from APELocalizerLib.training.objectives.heads import NormalizedHead
from APELocalizerLib.training.run import loop
from APELocalizerLib.training.run.loop import train
from APELocalizerLib.training.run.trainer import Trainer
from APELocalizerLib.training.run.workers import ItemReport
from made_up.anchored import made_up_config, made_up_set


def test_a_damaged_save_is_named_and_left_alone(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"half a save")
    with pytest.raises(TrainingError, match="state.pt.*damaged"):
        train(made_up_config(tmp_path, max_steps=8), made_up_set())
    assert (tmp_path / "state.pt").read_bytes() == b"half a save"


class Diverging:
    """Workers whose gradients are not numbers, nor what they saw."""

    count = 1

    def __init__(self, model):
        self.model = model

    def run(self, step):
        for parameter in self.model.parameters():
            parameter.grad = torch.full_like(parameter, float("nan"))
        return [ItemReport({"loss": float("nan")}, 1.0, float("nan"), [float("nan")] * 6, (), DREW)]


DREW = {"data": 0.0, "augmentation": 0.0, "network": 0.0}


def test_steps_without_finite_gradients_leave_no_trace_and_end_the_training(tmp_path):
    objective = AnchoredObjective(made_up_config(tmp_path), made_up_set(), torch.device("cpu"))
    objective.head = NormalizedHead()
    trainer = Trainer(made_up_config(tmp_path), objective)
    good = trainer.workers
    before = copy.deepcopy(trainer.average_model.state_dict()), copy.deepcopy(trainer.model.state_dict())
    trainer.workers = Diverging(trainer.model)
    for _ in range(49):
        trainer.train_step()
    for old, new in zip(before, (trainer.average_model, trainer.model), strict=True):
        torch.testing.assert_close(new.state_dict(), old, rtol=0, atol=0)
    trainer.workers = good
    assert np.isfinite(trainer.train_step()["gradient_norm"])  # the count begins anew
    trainer.workers = Diverging(trainer.model)
    for _ in range(49):
        trainer.train_step()
    with pytest.raises(TrainingError, match="learning-rate"):
        trainer.train_step()
    good.close()


OUT_OF_MEMORY = {
    "Linux": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    "Windows": RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, max allowed: 9.07 GB)."),
    "CUDA": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "NumPy": MemoryError(),
}


@pytest.mark.parametrize("where", ["set_up", "Trainer", "_Run"])
@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_too_little_memory_is_told_in_a_sentence_wherever_it_shows(tmp_path, monkeypatch, where, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(loop, where, fail) if where != "_Run" else monkeypatch.setattr(Trainer, "train_step", fail)
    with pytest.raises(DeviceError, match="Not enough memory"):
        train(made_up_config(tmp_path), made_up_set())


def test_other_errors_are_not_taken_for_too_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "train_step", lambda trainer: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError):
        train(made_up_config(tmp_path), made_up_set())


@pytest.mark.parametrize("content", [b"no model", [1, 2], {"state": 5}, {"step": 3}], ids=str)
def test_weights_to_start_from_must_be_those_of_a_network(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(TrainingError, match=r"“weights.pt”"):
        train(made_up_config(tmp_path, initial_weights=str(path)), made_up_set())


def test_a_begun_training_does_not_need_the_weights_that_it_started_from(tmp_path, unvalidated):
    train(made_up_config(tmp_path / "first", max_steps=1), made_up_set())
    weights = tmp_path / "first" / "export.pt"
    train(made_up_config(tmp_path / "run", max_steps=1, initial_weights=str(weights)), made_up_set())
    weights.unlink()
    assert train(made_up_config(tmp_path / "run", max_steps=2, initial_weights=str(weights)), made_up_set()).step == 2
    with pytest.raises(TrainingError, match="do not exist"):
        train(made_up_config(tmp_path / "new", max_steps=1, initial_weights=str(weights)), made_up_set())
