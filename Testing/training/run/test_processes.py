"""Trainings in processes of their own: killed at any moment, and several at once, as on a cluster."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.patients.virtual_patients import CropKind
from made_up.files import write_landmarks, write_torso
from made_up.paths import MODULE
from made_up.trainings import save_settings, tiny_config, tiny_pairs

TIMEOUT = 120


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(MODULE), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(folder: Path, settings: Path, *launcher: str) -> subprocess.Popen:
    """Start `ape-localizer train`; `launcher` are Python's options, instead of `-m APELocalizerLib`."""
    program = launcher or ("-m", "APELocalizerLib")
    command = [sys.executable, *program, "train", "--config", settings, "--out", folder]
    return subprocess.Popen(
        [str(word) for word in command], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> str:
    output, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    return output


def losses(folder: Path) -> dict[int, float]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    by_step = {int(row["step"]): float(row["loss"]) for row in rows}
    assert len(by_step) == len(rows), "a step is logged twice"
    return by_step


@pytest.fixture
def scans(tmp_path):
    first = write_torso(tmp_path / "scans" / "one.nii.gz")
    return first, write_torso(tmp_path / "scans" / "two.nii.gz", scale=0.9, shift=(5, 0, 10))


KILLED_AFTER_18_STEPS = """\
import os, signal, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from APELocalizerLib.cli.program import main

steps = []

def count(*_):
    steps.append(1)
    if len(steps) == 18:
        os.kill(os.getpid(), signal.SIGKILL)

register_optimizer_step_post_hook(count)
sys.exit(main(sys.argv[1:]))
"""


def test_a_training_killed_with_sigkill_resumes_to_the_same_losses(scans, tmp_path):
    """The kill comes between saves, so that some steps are done twice; they must come out the same."""
    changes = dict(max_steps=25, checkpoint_every=7, cache=str(tmp_path / "cache"))
    settings = save_settings(tiny_config(tmp_path / "x", scans, **changes), tmp_path / "settings.json")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, settings))
    victim = start(killed, settings, "-c", KILLED_AFTER_18_STEPS)
    _, errors = victim.communicate(timeout=TIMEOUT)
    assert victim.returncode == -signal.SIGKILL, errors
    assert (killed / "state.pt").exists() and max(losses(killed)) > 14, "it was killed in the midst of things"
    finish(start(killed, settings))
    assert losses(killed) == losses(whole) and set(losses(whole)) == set(range(1, 26))
    assert (killed / "model.pt").read_bytes()[:2] == b"PK" and not list(killed.glob("*.part"))


def test_two_processes_train_like_one_with_twice_the_batch(scans, tmp_path):
    """DistributedDataParallel over gloo, started by torchrun, on different halves of every step."""
    changes = dict(max_steps=5, cache=str(tmp_path / "cache"))
    assert_two_are_like_one(
        tiny_config("double", scans, tiny_pairs(patients=2), **changes),
        tiny_config("half", scans, tiny_pairs(patients=1), **changes),
        tmp_path,
    )


def test_two_processes_share_anchored_training(scans, tmp_path):
    """Each of them reads the landmarks, and one validates."""
    table = write_landmarks(tmp_path / "l.csv", {"one": {}, "two": {"scale": 0.9, "shift": (5, 0, 10)}})
    config = tiny_config(
        "anchored", scans, landmarks=str(table), held_out=("two",), anchored=True, max_steps=3, crops_per_step=2,
        cache=str(tmp_path / "cache"), kinds=(CropKind((5.0, 5.0, 6.0), 1.0, 60_000, (40, 40, 40)),),
    )  # fmt: skip
    config = config.changed(pairs=None)
    assert_two_are_like_one(config, config.changed(crops_per_step=1), tmp_path)
    assert "one_f_mean" in (tmp_path / "two" / "validation.csv").read_text(encoding="utf-8")


def assert_two_are_like_one(double: TrainingConfig, half: TrainingConfig, folder: Path) -> None:
    """One process with the settings `double` has the losses that two with `half` have, of which one reports."""
    one, two = folder / "one", folder / "two"
    finish(start(one, save_settings(double, folder / "double.json")))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "APELocalizerLib")
    output = finish(start(two, save_settings(half, folder / "half.json"), *launcher))
    assert output.count("model.pt") == 1, "every process reports"
    assert losses(two) == pytest.approx(losses(one), rel=2e-5)
    assert len(set(losses(one).values())) == double.optimization.max_steps
