"""Options of the loop: accumulation, precision, schedules, stopping, validation, what is written."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.embedder import embed_scan
from APELocalizerLib.core.embedding.runner import InferenceSettings
from APELocalizerLib.core.model.network import APENetwork
from APELocalizerLib.core.model.registry import load_model
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.objectives.heads import NormalizedHead, ScaledHead, TrainedNetwork
from APELocalizerLib.training.objectives.self_consistency import SelfConsistency
from APELocalizerLib.training.patients.virtual_patients import CropKind, Deformation
from APELocalizerLib.training.run import files, machine
from APELocalizerLib.training.run.build import set_up
from APELocalizerLib.training.run.distributed import Processes
from APELocalizerLib.training.run.loop import train
from APELocalizerLib.training.run.machine import precision_for
from APELocalizerLib.training.run.schedule import learning_rate
from APELocalizerLib.training.run.trainer import Trainer
from APELocalizerLib.training.run.workers import SerialWorkers
from made_up.files import write_landmarks, write_torso
from made_up.trainings import TINY, RampSource, tiny_config, tiny_pairs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two phantoms, and a cache of them."""
    folder = tmp_path_factory.mktemp("loop")
    write_torso(folder / "scans" / "one.nii.gz")
    write_torso(folder / "scans" / "two.nii.gz", scale=0.9, shift=(5, 0, 10))
    return folder


@pytest.fixture
def config(place, tmp_path):
    return tiny_config(tmp_path / "run", [place / "scans"], cache=str(place / "cache"))


def run(config, **keywords):
    rows = []
    trainer = train(config, on_step=rows.append, **keywords)
    return trainer, [row["loss"] for row in rows]


def test_the_self_supervised_loss_falls(config):
    _, losses = run(config.changed(max_steps=60, pairs=tiny_pairs(patients=2)))
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:4])


@pytest.mark.parametrize("output", ["scaled", "normalized"])
def test_accumulated_steps_are_those_of_a_larger_batch(config, tmp_path, output):
    pairs = tiny_pairs(output=output)
    _, large = run(config.changed(output=str(tmp_path / "a"), pairs=replace(pairs, patients=2)))
    _, accumulated = run(config.changed(output=str(tmp_path / "b"), pairs=pairs, accumulate=2))
    assert accumulated == large


def test_one_item_after_the_other_gives_the_same_as_threads(config, tmp_path):
    """The path of GPUs and of several processes, on the CPU."""
    config = config.changed(pairs=tiny_pairs(patients=2), max_steps=3)
    _, threads = run(config.changed(threads=2))
    torch.set_num_threads(1)
    setup = set_up(config, CPU, Processes())
    trainer = Trainer(config, setup.objective)
    trainer.workers = SerialWorkers(trainer.model, setup.objective, Processes(), CPU)
    serial = [trainer.train_step()["loss"] for _ in range(config.optimization.max_steps)]
    assert serial == pytest.approx(threads, rel=1e-5)


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this CPU has no bfloat16")
def test_bfloat16_follows_float32(config, tmp_path):
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
    monkeypatch.delattr(torch.cuda, "is_bf16_supported")  # its argument is not in PyTorch 2.2
    assert machine.has_fast_bf16(torch.device("cuda")) is fast


def test_schedules(config):
    config = config.changed(max_steps=100, warm_up_steps=10, learning_rate=1.0)
    cosine = [learning_rate(config.optimization, step, step / 100) for step in range(101)]
    assert cosine[0] == pytest.approx(0.1) and cosine[-1] == pytest.approx(0.01)
    assert cosine[50] == pytest.approx(0.505) and max(cosine) < 1.0
    constant = [
        learning_rate(config.changed(schedule="constant").optimization, step, step / 100) for step in range(101)
    ]
    assert constant[4] == pytest.approx(0.5) and set(constant[9:]) == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "constant", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 40])
def test_a_run_shorter_than_its_warm_up_reaches_the_full_rate(config, schedule, steps):
    config = config.changed(max_steps=steps, warm_up_steps=1000, learning_rate=1.0, schedule=schedule)
    rates = [learning_rate(config.optimization, step, step / steps) for step in range(steps)]
    assert max(rates) > 0.5 and (schedule == "constant" or steps < 3 or rates[-1] < max(rates))


def test_a_stopped_training_goes_on_to_the_same_losses(config, tmp_path):
    _, whole = run(config.changed(output=str(tmp_path / "whole")))
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) >= 4  # the first calls are while scans are prepared

    trainer, first = run(config, cancelled=cancelled)
    assert not trainer.finished and 0 < len(first) < 6
    assert trainer.step == len(first)
    _, second = run(config)
    assert first + second == whole


def test_the_folder_holds_what_reproduces_and_uses_the_run(config, place, tmp_path):
    trainer, losses = run(config)
    folder = tmp_path / "run"
    again = TrainingConfig.load(folder / "config.json")
    _, repeated = run(again.changed(output=str(tmp_path / "again")))
    assert repeated == losses
    model = load_model(str(folder / "model.pt"))
    assert model.name == "run" and not model.anchored
    scan = read_scan(place / "scans" / "one.nii.gz")
    found = embed_scan(scan, model, "fast", InferenceSettings(device="cpu"))
    assert np.isfinite(found.values[found.body]).all() and found.values[found.body].std() > 0
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, 7)) and "equivariance" in rows[0]


def test_an_exported_scale_is_the_learned_one_in_millimeters(config):
    trainer, _ = run(config)
    scale, offset = trainer.scale_and_offset()
    learned = trainer.average_model.head.scale.detach().numpy()
    unit = trainer.average_model.head.unit_mm.item()
    assert 30 < unit < 120, "the positions of a torso deviate by so many millimeters"
    np.testing.assert_allclose(scale, learned * unit, rtol=1e-5)
    assert offset == [0.0, 0.0, 0.0] and not np.allclose(learned, 4.0, atol=1e-4)


def test_a_normalized_embedding_has_no_mean_and_unit_variance():
    head, output = NormalizedHead(), torch.rand(4, 3, 5, 5, 5, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.2
    embedding = head(output)
    torch.testing.assert_close(embedding.mean(dim=(0, 2, 3, 4)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(embedding.var(dim=(0, 2, 3, 4), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    head.update(80.0, head.seen())
    scale, offset = head.millimeters()
    whole = output * scale[:, None, None, None] + offset[:, None, None, None]
    torch.testing.assert_close(whole, 80.0 * embedding, atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(head.eval()(output), embedding, atol=1e-3, rtol=1e-3)


def test_running_averages_settle():
    head = ScaledHead()
    for unit in (80.0, *[90.0] * 300):
        head.update(unit, [])
    assert head.unit_mm.item() == pytest.approx(90.0, abs=0.1)


class Oracle(torch.nn.Module):
    """A model that answers every cell with its place on the grid: right for patients that are not deformed."""

    def forward(self, image, visible):
        shape = [n // 4 for n in image.shape[2:]]
        return torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))[None]


class Blind(torch.nn.Module):
    """A model that answers the same everywhere."""

    def forward(self, image, visible):
        return torch.zeros(1, 3, *(n // 4 for n in image.shape[2:]))


def test_self_consistency_tells_a_right_model_from_a_blind_one():
    still = Deformation(0, 0, 0, 0, 100, 0, 45)
    sources = [RampSource("one"), RampSource("two")]
    points = {"carina": np.array([100.0, 120.0, 90.0]), "apex": np.array([60.0, 80.0, 150.0])}
    validation = SelfConsistency(sources, still, (4.0, 4.0, 6.0), CPU, landmarks={"one": points, "two": points})
    right, blind = validation.measure(Oracle()), validation.measure(Blind())
    assert set(right) == {"self_median_mm", "self_mean_mm", "landmarks_median_mm", "landmarks_mean_mm"}
    assert right["self_mean_mm"] < 5 and right["landmarks_mean_mm"] < 5
    assert blind["self_mean_mm"] > 60 and blind["landmarks_mean_mm"] > 60


def test_held_out_scans_validate_and_do_not_train(config, place, tmp_path):
    landmarks = write_landmarks(tmp_path / "l.csv", {"one": {}, "two": {"scale": 0.9, "shift": (5, 0, 10)}})
    config = config.changed(held_out=("two",), landmarks=str(landmarks))
    objective = set_up(config, CPU, Processes()).objective
    assert [source.name for source in objective.sources] == ["one"]
    assert {source.name for source in objective.validation.sources} == {"one", "two"}
    with pytest.raises(TrainingError, match="No scan is called “three”"):
        set_up(config.changed(held_out=("three",)), CPU, Processes())


def test_anchored_training_needs_landmarks_of_the_scans(config, tmp_path):
    config = config.changed(pairs=None, anchored=True, cache=str(tmp_path / "cache"))
    landmarks = write_landmarks(tmp_path / "l.csv", {"somebody": {}})
    for path in (None, str(landmarks)):
        with pytest.raises(TrainingError, match="No scan has enough annotations"):
            set_up(config.changed(landmarks=path), CPU, Processes())


def test_anchored_coordinates_come_from_the_landmarks(config, tmp_path):
    """The scale and offset of a run on own scans span the body, in the average patient's coordinates."""
    landmarks = write_landmarks(tmp_path / "l.csv", {"one": {}, "two": {"scale": 0.9, "shift": (5, 0, 10)}})
    config = config.changed(pairs=None, anchored=True, landmarks=str(landmarks), cache=str(tmp_path / "cache"))
    setup = set_up(config, CPU, Processes())
    assert all(240 < mm < 800 for mm in setup.config.objective.scale)
    one, two = setup.objective.data.train
    for scan in (one, two):  # the same landmark has the same coordinates in both, whatever the body's size
        np.testing.assert_allclose(one.goals, scan.goals)
    fine = [n // 2 for n in one.target.shape[2:]]
    assert one.target[0, :3, fine[0], fine[1], fine[2]].abs().max() < 60


def test_the_model_counts_the_scans_that_it_was_trained_on(config, tmp_path, caplog, monkeypatch):
    """Neither one that is held out nor, in anchored training, one without landmarks."""
    landmarks = write_landmarks(tmp_path / "l.csv", {"one": {}})
    monkeypatch.setattr(Trainer, "validate", lambda trainer: {})

    def told(**changes):
        changed = config.changed(output=str(tmp_path / "-".join(map(str, changes))), max_steps=1, **changes)
        caplog.clear()
        train(changed)
        return load_model(str(Path(changed.output) / "model.pt")).training_data

    assert told() == "2 scans of the user" and not caplog.messages
    assert told(held_out=("two",)) == "1 scan of the user"
    anchored = dict(anchored=True, landmarks=str(landmarks), cache=str(tmp_path / "cache"))
    kinds = (CropKind((5.0, 5.0, 6.0), 1.0, 60_000, (40, 40, 40)),)
    assert told(pairs=None, kinds=kinds, crops_per_step=1, **anchored) == "1 scan of the user"
    assert caplog.messages == ["1 scan has too few landmarks and is not used; --preset mixed uses it."]
    mixed = tiny_pairs(output="fixed", position_unit_mm=100.0, background=0, intensity="anchored")
    assert told(pairs=mixed, kinds=kinds, crops_per_step=1, preset="mixed", **anchored) == "2 scans of the user"
    assert not caplog.messages


def test_rows_after_the_last_save_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    for step in range(1, 8):
        files.append_row(path, {"step": step, "loss": step / 10})
    files.trim_rows(path, 5)
    files.append_row(path, {"step": 6, "loss": 0.66, "new": 1.0})
    rows = list(csv.DictReader(path.open()))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"] and rows[-1]["loss"] == "0.66"
    files.trim_rows(tmp_path / "absent.csv", 5)


def test_the_board_is_optional(tmp_path, monkeypatch):
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    board = files.Board(tmp_path)
    board.add("training", {"loss": 1.0}, 1)
    board.close()
    assert not list(tmp_path.iterdir())


def test_the_board_gets_every_number(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def close(self):
            written.append("closed")

    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    board = files.Board(tmp_path, done=6)  # what an earlier log has of step 7 and later ones is done again
    board.add("training", {"step": 7, "loss": 1.5}, 7)
    board.close()
    assert written == [(str(tmp_path / "tensorboard"), 7), ("training/loss", 1.5, 7), "closed"]


def test_wrong_settings_are_refused(config):
    for changes in (
        {"schedule": "sunny"}, {"precision": "fp8"}, {"max_steps": 0}, {"anchored": False, "pairs": None},
        {"validate_every": 0}, {"seed": -1}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
        {"learning_rate": float("inf")}, {"max_minutes": 0}, {"max_minutes": float("nan")}, {"warm_up_steps": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=list(changes)[0]):
            config.changed(**changes)
    assert config.changed(seed=0, validate_every=1, max_minutes=0.5).optimization.max_minutes == 0.5
    values = json.loads(json.dumps(config.to_dict()))
    values["pairs"]["sunshine"] = 1
    with pytest.raises(ValueError, match="sunshine"):
        TrainingConfig.from_dict(values)
