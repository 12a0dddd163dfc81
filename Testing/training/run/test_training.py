"""The trainer on a tiny made-up scan: geometry of crops, falling loss, exact resume, exported weights."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from APELocalizerLib.training.objectives.retrieval import embed, nearest, sample
from APELocalizerLib.training.run.loop import train
from APELocalizerLib.training.run.trainer import Trainer
from made_up.anchored import made_up_config, made_up_scan, made_up_set
from made_up.trainings import TINY


def test_the_loss_falls(tmp_path, unvalidated):
    rows = []
    train(made_up_config(tmp_path, max_steps=45, threads=1), made_up_set(), rows.append)
    first, last = (np.mean([row["distance_mm"] for row in part]) for part in (rows[:5], rows[-5:]))
    assert last < 0.6 * first


def test_a_network_of_half_the_stride_learns_and_finds_its_own_places(tmp_path, unvalidated):
    """The map of a trained network must put the scan's places where they are, at whatever stride."""
    rows = []
    network = replace(TINY, stem_stride=2)
    trainer = train(made_up_config(tmp_path, network=network, max_steps=45, threads=1), made_up_set(), rows.append)
    first, last = (np.mean([row["distance_mm"] for row in part]) for part in (rows[:5], rows[-5:]))
    assert last < 0.6 * first
    scan = made_up_scan()
    found = embed(
        trainer.average,
        scan,
        (4.0, 4.0, 4.0),
        *map(torch.tensor, (trainer.config.objective.scale, trainer.config.objective.offset)),
    )
    values = sample(found, np.array([[0.0, 0.0, -60.0], [0.0, 0.0, 60.0]]))
    assert values.shape == (2, 3) and values[1, 2] - values[0, 2] > 40


def test_a_stride_that_crops_are_not_made_of_is_refused(tmp_path):
    with pytest.raises(ValueError, match="stem stride of 1, 2, 4, not 8"):
        made_up_config(tmp_path, network=replace(TINY, stem_stride=8))


def test_a_killed_run_resumes_to_the_same_losses(tmp_path, unvalidated):
    whole, parts = [], []
    train(made_up_config(tmp_path / "whole", max_steps=8), made_up_set(), whole.append)

    def die(metrics):
        parts.append(metrics)
        if metrics["step"] == 5:
            raise KeyboardInterrupt

    config = made_up_config(tmp_path / "killed", max_steps=8)
    with pytest.raises(KeyboardInterrupt):
        train(config, made_up_set(), die)
    (tmp_path / "killed" / "state.pt.part").write_bytes(b"half a state")  # as a kill while saving leaves it
    train(config, made_up_set(), parts.append)
    resumed = {row["step"]: row["loss"] for row in parts}  # the steps after the last save come twice
    assert resumed == {row["step"]: row["loss"] for row in whole}


def validated(folder):
    with (folder / "validation.csv").open(encoding="utf-8", newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@pytest.fixture
def validating(monkeypatch):
    monkeypatch.setattr(Trainer, "validate", lambda trainer: {"distance_mm": 1.0})


def test_a_finished_training_is_validated_once(tmp_path, validating):
    config = made_up_config(tmp_path, max_steps=2, validate_every=10)
    for _ in range(3):
        train(config, made_up_set())
    assert validated(tmp_path) == [2]
    (tmp_path / "validation.csv").unlink()  # as after a kill between the last save and the validation
    train(config, made_up_set())
    assert validated(tmp_path) == [2]


def test_a_stop_is_heeded_before_the_next_step_and_without_validation(tmp_path, validating):
    rows = []
    config = made_up_config(tmp_path, max_steps=5, validate_every=1)
    trainer = train(config, made_up_set(), rows.append, cancelled=lambda: len(rows) == 2)
    assert trainer.step == len(rows) == 2 and trainer.stop_asked
    assert validated(tmp_path) == [1, 2]
    config = made_up_config(tmp_path / "other", max_steps=5, validate_every=10)
    train(config, made_up_set(), cancelled=lambda: True)
    assert torch.load(tmp_path / "other" / "state.pt", weights_only=True)["step"] == 0
    assert not (tmp_path / "other" / "validation.csv").exists()


def test_exported_weights_give_the_same_map_and_find_a_place_again(tmp_path, unvalidated):
    trainer = train(made_up_config(tmp_path, max_steps=45, threads=1), made_up_set())
    exported = torch.load(tmp_path / "export.pt", weights_only=True)
    network = APENetwork(NetworkConfig.from_dict(exported["network"])).eval()
    network.load_state_dict(exported["state"])
    image = torch.rand(1, 1, 40, 40, 40)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), trainer.average(image), rtol=0, atol=1e-5)
    scan = made_up_scan()
    found = embed(network, scan, (4.0, 4.0, 4.0), torch.tensor(exported["scale"]), torch.tensor(exported["offset"]))
    points = np.array([[0.0, 0.0, 0.0], [20.0, -10.0, 30.0]])
    assert np.linalg.norm(nearest(found, sample(found, points)) - points, axis=1).max() < 12.0
