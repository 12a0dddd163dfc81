"""Two scans and the settings of a tiny training on them."""

import pytest

from APELocalizerLib.training.run.trainer import Trainer
from made_up.files import write_torso
from made_up.trainings import tiny_config


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Two phantoms, and a cache of them."""
    folder = tmp_path_factory.mktemp("loop")
    write_torso(folder / "scans" / "one.nii.gz")
    write_torso(folder / "scans" / "two.nii.gz", scale=0.9, shift=(5, 0, 10))
    return folder


@pytest.fixture
def config(place, tmp_path):
    return tiny_config(tmp_path / "run", [place / "scans"], cache=str(place / "cache"))


@pytest.fixture
def unvalidated(monkeypatch):
    """Trainings end without validation, which takes longer than their few steps."""
    monkeypatch.setattr(Trainer, "validate", lambda trainer: {})
