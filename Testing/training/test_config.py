"""Settings of a training: wrong ones are refused, and a file keeps them."""

import json

import pytest

from APELocalizerLib.training.config import TrainingConfig
from made_up.anchored import made_up_config


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


def test_config_survives_json(tmp_path):
    config = made_up_config(tmp_path, held_out=("a", "b"))
    config.save(tmp_path / "config.json")
    assert TrainingConfig.load(tmp_path / "config.json") == config
    with pytest.raises(ValueError, match="sunshine"):
        TrainingConfig.from_dict({**config.to_dict(), "sunshine": 1})
