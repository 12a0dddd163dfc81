"""The presets hold the values that the paper and the released code state, and each of them trains on a real scan."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from APELocalizerLib.cli.train import PRESET_NAMES
from APELocalizerLib.core.model.network import NetworkConfig
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.cache import CacheSettings
from APELocalizerLib.training.patients.virtual_patients import CropKind
from APELocalizerLib.training.recipes import RECIPES
from APELocalizerLib.training.run.loop import train
from APELocalizerLib.training.run.schedule import learning_rate
from made_up.paths import SAMPLES
from made_up.trainings import TINY


def test_the_command_knows_every_preset():
    assert set(PRESET_NAMES) == set(RECIPES)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_preset_says_what_it_is_and_survives_its_file(name, tmp_path):
    config = RECIPES[name](str(tmp_path))
    config.save(tmp_path / "config.json")
    assert TrainingConfig.load(tmp_path / "config.json") == config
    assert config.recipe == name and RECIPES[name].__doc__


@pytest.mark.parametrize("name", ["ape-naive", "ape-aug", "ape-equiv", "released"])
def test_presets_of_publications_name_their_differences(name):
    assert "Differences" in RECIPES[name].__doc__


@pytest.mark.parametrize(("name", "views", "weight"), [("ape-naive", 1, 0), ("ape-aug", 2, 0), ("ape-equiv", 2, 1)])
def test_values_of_the_paper(name, views, weight):
    """Section 3 of the paper: 8 x 1000 voxels, volume of 96 x 96 x 64, 1 x 1 x 1.5 to 2 x 2 x 3 mm, constant 3e-4."""
    config = RECIPES[name]("x")
    pairs = config.objective.pairs
    assert (pairs.patients, pairs.pairs, pairs.positives, pairs.background) == (1, 8, 1000, 0)
    assert (pairs.views, pairs.equivariance, pairs.virtual, pairs.aspect) == (views, weight, False, 2.0)
    assert pairs.finest == (1.0, 1.0, 1.5) and pairs.coarsest == (2.0, 2.0, 3.0) and pairs.shape == (96, 96, 64)
    assert (config.optimization.max_steps, config.optimization.weight_decay, config.optimization.clip_norm) == (
        150_000,
        1e-6,
        1.0,
    )
    assert {learning_rate(config.optimization, step, step / 150_000) for step in (0, 1, 75_000, 149_999)} == {3e-4}


def test_values_of_the_released_code():
    config = RECIPES["released"]("x")
    pairs = config.objective.pairs
    assert (pairs.pairs, pairs.positives, pairs.background, pairs.shape) == (8, 1024, 1024, (96, 96, 64))
    assert pairs.finest == (1.0, 1.0, 1.5) and pairs.coarsest == (4.0, 4.0, 6.0) and pairs.aspect == 1.0
    assert (pairs.hidden_chance, pairs.hidden_share, pairs.hidden_block) == (0.5, 0.6, (24, 24, 16))
    assert pairs.equivariance == pytest.approx(1 / 3) and pairs.output == "scaled"
    assert pairs.stored.preparation == PreparationConfig.published() and pairs.stored.spacing == (1.0, 1.0, 1.5)
    assert (config.optimization.max_steps, config.optimization.adam_eps, config.optimization.weight_decay) == (
        300_000,
        1e-3,
        1e-6,
    )
    assert config.network == NetworkConfig.published()


def test_one_cycle_is_the_released_schedule():
    """Warm-up from 1/25 of 3e-4 within 10 000 steps, then down to 1/250000 of it (PyTorch's OneCycleLR)."""
    torch = pytest.importorskip("torch")
    config = RECIPES["released"]("x").changed(max_steps=300, warm_up_steps=10)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-4, total_steps=300, pct_start=10 / 300)
    for step in range(300):
        expected = schedule.get_last_lr()[0]
        assert learning_rate(config.optimization, step, step / 300) == pytest.approx(expected, rel=1e-9), step
        optimizer.step()
        schedule.step()


def small(config: TrainingConfig) -> TrainingConfig:
    """A preset made tiny: its losses, heads, augmentation and schedule, on few and coarse voxels."""
    changes = dict(
        network=TINY, max_steps=2, checkpoint_every=2, validate_every=2, log_every=1, threads=1, device="cpu",
        precision="fp32", crops_per_step=1, kinds=(CropKind((5.0, 5.0, 6.0), 1.0, 60_000, (40, 40, 40)),),
    )  # fmt: skip
    pairs = config.objective.pairs
    if pairs is not None:
        stored = pairs.stored
        preparation = stored.preparation
        if preparation.base_spacing is not None:
            preparation = replace(preparation, base_spacing=(5.0, 5.0, 6.0))
        changes["pairs"] = replace(
            pairs, patients=1, pairs=2, shape=(32, 32, 32), finest=(4.0, 4.0, 4.0), coarsest=(6.0, 6.0, 6.0),
            positives=100, background=min(pairs.background, 100),
            stored=CacheSettings(preparation, (5.0, 5.0, 6.0), stored.kind),
        )  # fmt: skip
    return config.changed(**changes)


def on_samples(config: TrainingConfig, folder: Path) -> TrainingConfig:
    """Settings with the two sample scans and their landmarks."""
    scans = (str(SAMPLES / "support_ct.nii.gz"), str(SAMPLES / "target_ct.nii.gz"))
    landmarks = folder / "landmarks.csv"
    lines = ["case,name,r_mm,a_mm,s_mm"]
    for case in ("support", "target"):
        rows = (SAMPLES / f"{case}_points.csv").read_text(encoding="utf-8").splitlines()[1:]
        lines += [f"{case}_ct,{row}" for row in rows]
    landmarks.write_text("\n".join(lines))
    return config.changed(scans=scans, landmarks=str(landmarks))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_preset_trains_on_real_scans(name, tmp_path):
    config = small(RECIPES[name](str(tmp_path / "run")))
    rows = []
    trainer = train(on_samples(config, tmp_path), on_step=rows.append)
    assert trainer.finished and all(math.isfinite(row["loss"]) and row["gradient_norm"] > 0 for row in rows)
    validation = (tmp_path / "run" / "validation.csv").read_text(encoding="utf-8")
    assert "self_median_mm" in validation and "nan" not in validation
    assert config.objective.kind.is_anchored or "landmarks_median_mm" in validation
    assert (tmp_path / "run" / "model.pt").exists() and (tmp_path / "run" / "config.json").exists()


def test_held_out_landmarks_validate_anchored_training(tmp_path):
    config = on_samples(small(RECIPES["anchored"](str(tmp_path / "run"))), tmp_path)
    train(config.changed(held_out=("target_ct",)))
    columns = (tmp_path / "run" / "validation.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {"one_f_mean", "several_f_median"} <= set(columns) and "self_median_mm" not in columns
