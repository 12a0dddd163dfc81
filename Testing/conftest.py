"""Puts the module's folder on the path, so that tests import the code that Slicer installs; folders of patients."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT / "APELocalizer", ROOT / "Testing"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """An empty folder of scans that the study reads as made-up ones."""
    from made_up.patients import World

    made_up = World(tmp_path / "data")
    made_up.folder.mkdir()
    monkeypatch.setattr("APELocalizerLib.evaluation.study.read_scan", made_up.scan)
    return made_up


@pytest.fixture
def patients(world):
    """Anna, and Bert who lies 30 mm higher; three landmarks, a whole liver, and lungs that the field of view cuts."""
    for name, height in (("anna", 0.0), ("bert", 30.0)):
        world.add(name, (0, 0, height))
        for landmark, s in (("apex", 180), ("carina", 90), ("hip", -170)):
            world.mark(name, landmark, (10, 20, s + height), 3 if name == "anna" else 4)
        world.box(name, "liver", (-60, 40, -50, 50, -20 + height, 60 + height), 3)
        world.box(name, "lung", (-60, 40, -50, 50, 0, 190), 3, "smax")
    return world
