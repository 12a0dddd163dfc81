"""Several programs that learn into one library file at the same time: every shot survives."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.library.files import library_lock, load_library, save_library
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from made_up.maps import CLICKS
from made_up.paths import MODULE

LEARNER = """
import sys
from pathlib import Path
from APELocalizerLib.core.library.files import library_lock, load_library, save_library
from APELocalizerLib.core.library.library import LandmarkLibrary

path, learned = Path(sys.argv[1]), load_library(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for name in learned.names:
    with library_lock(path):
        library = load_library(path) if path.exists() else LandmarkLibrary()
        save_library(library.merged(learned.subset([name])), path)
"""


def test_four_programs_that_learn_five_landmarks_each_keep_all_twenty(tmp_path, support_map):
    path, programs = tmp_path / "shared.json", []
    for name in "abcd":
        support = replace(support_map, scan_name=name, scan_fingerprint=name)
        clicks = {f"landmark {number} of {name}": CLICKS["carina"] for number in range(5)}
        save_library(learn_points(LandmarkLibrary(), support, clicks), tmp_path / f"{name}.json")
        programs.append(
            subprocess.Popen(
                [sys.executable, "-c", LEARNER, str(path), str(tmp_path / f"{name}.json")],
                env={**os.environ, "PYTHONPATH": str(MODULE), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for program in programs:
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        program.stdin.write("go\n")
        program.stdin.flush()
    assert [program.communicate() and program.returncode for program in programs] == [0] * 4
    library = load_library(path)
    assert set(library.names) == {f"landmark {number} of {name}" for number in range(5) for name in "abcd"}
    assert {support.name for support in library.supports} == set("abcd")
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that refuses to be written")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with (
        pytest.raises(LibraryError, match="mine.json cannot be saved.*write permission"),
        library_lock(tmp_path / "mine.json"),
    ):
        pass


def test_a_library_that_another_program_changes_is_not_waited_for_without_end(tmp_path, monkeypatch):
    def busy(path):
        raise TimeoutError

    monkeypatch.setattr("APELocalizerLib.core.library.files.locked", busy)
    with (
        pytest.raises(LibraryError, match="mine.json is being changed by another program.*try again"),
        library_lock(tmp_path / "mine.json"),
    ):
        pass
