"""Options of the loop: accumulation, precision, schedules, stopping, validation, what is written."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.embedder import embed_scan
from APELocalizerLib.core.embedding.runner import InferenceSettings
from APELocalizerLib.core.model.registry import load_model
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.patients.virtual_patients import CropKind
from APELocalizerLib.training.run.build import set_up
from APELocalizerLib.training.run.distributed import Processes
from APELocalizerLib.training.run.loop import train
from APELocalizerLib.training.run.trainer import Trainer
from APELocalizerLib.training.run.workers import SerialWorkers
from made_up.files import write_landmarks
from made_up.trainings import run, tiny_pairs

CPU = torch.device("cpu")


def test_the_self_supervised_loss_falls(config, unvalidated):
    _, losses = run(config.changed(max_steps=60, pairs=tiny_pairs(patients=2)))
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:4])


@pytest.mark.parametrize("output", ["scaled", "normalized"])
def test_accumulated_steps_are_those_of_a_larger_batch(config, tmp_path, output, unvalidated):
    pairs = tiny_pairs(output=output)
    _, large = run(config.changed(output=str(tmp_path / "a"), pairs=replace(pairs, patients=2)))
    _, accumulated = run(config.changed(output=str(tmp_path / "b"), pairs=pairs, accumulate=2))
    assert accumulated == large


def test_one_item_after_the_other_gives_the_same_as_threads(config, tmp_path, unvalidated):
    """The path of GPUs and of several processes, on the CPU."""
    config = config.changed(pairs=tiny_pairs(patients=2), max_steps=3)
    _, threads = run(config.changed(threads=2))
    torch.set_num_threads(1)
    setup = set_up(config, CPU, Processes())
    trainer = Trainer(config, setup.objective)
    trainer.workers = SerialWorkers(trainer.model, setup.objective, Processes(), CPU)
    serial = [trainer.train_step()["loss"] for _ in range(config.optimization.max_steps)]
    assert serial == pytest.approx(threads, rel=1e-5)


def test_a_stopped_training_goes_on_to_the_same_losses(config, tmp_path, unvalidated):
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


def test_an_exported_scale_is_the_learned_one_in_millimeters(config, unvalidated):
    trainer, _ = run(config)
    scale, offset = trainer.scale_and_offset()
    learned = trainer.average_model.head.scale.detach().numpy()
    unit = trainer.average_model.head.unit_mm.item()
    assert 30 < unit < 120, "the positions of a torso deviate by so many millimeters"
    np.testing.assert_allclose(scale, learned * unit, rtol=1e-5)
    assert offset == [0.0, 0.0, 0.0] and not np.allclose(learned, 4.0, atol=1e-4)


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
