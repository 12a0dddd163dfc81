"""The Python interface without Slicer: the example in the package's docstring runs, and does what it says."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import APELocalizerLib
from APELocalizerLib.core.annotations.marks import read_points
from made_up.paths import MODULE, SAMPLES


def example() -> str:
    """The indented lines of the package's docstring."""
    lines = APELocalizerLib.__doc__.splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))


def test_the_example_finds_the_landmarks_of_one_sample_on_the_other(monkeypatch):
    monkeypatch.chdir(SAMPLES)
    names: dict = {}
    exec(example(), names)
    located = names["engine"].localize(names["scan"], names["library"])
    known = read_points(SAMPLES / "target_points.csv")
    errors = [np.linalg.norm(np.subtract(p.position_ras, known[p.name])) for p in located.points if p.found]
    assert len(errors) >= 10 and np.median(errors) < 25


@pytest.mark.parametrize("name", APELocalizerLib.__all__)
def test_every_public_name_is_there_and_explains_itself(name):
    assert getattr(APELocalizerLib, name).__doc__


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="Engin"):
        _ = APELocalizerLib.Engin


def test_importing_the_package_loads_nothing_else():
    code = "import sys; before = set(sys.modules); import APELocalizerLib; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=MODULE, check=True)
    assert done.stdout.strip() == "['APELocalizerLib']"
