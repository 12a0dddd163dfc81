"""Programs that change the same file do so one after another, and a program that ends lets go."""

import os
import subprocess
import sys

import pytest

from APELocalizerLib.core.base.locks import locked
from made_up.paths import MODULE

HOLDER = """
import sys
from APELocalizerLib.core.base.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another program that holds the lock of shared.json until it ends."""
    program = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "shared.json")],
        env={**os.environ, "PYTHONPATH": str(MODULE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "held\n"
    yield program
    program.kill()
    program.wait()
    program.stdout.close()


def test_what_another_program_holds_is_not_taken(holder, tmp_path):
    with pytest.raises(TimeoutError, match="shared.json is being changed"), locked(tmp_path / "shared.json", 0.0):
        pass
    with locked(tmp_path / "other.json", 0.0):
        pass


def test_a_killed_program_lets_go(holder, tmp_path):
    holder.kill()
    holder.wait()
    with locked(tmp_path / "shared.json"):
        pass


def test_waiting_ends_when_the_other_program_lets_go(holder, tmp_path):
    holder.stdin.close()
    with locked(tmp_path / "shared.json"):
        assert holder.wait() == 0


def test_nothing_stays_beside_the_file_also_after_an_error(tmp_path):
    (tmp_path / "shared.json").write_text("content")
    with pytest.raises(RuntimeError), locked(tmp_path / "shared.json"):
        raise RuntimeError("no room")
    with locked(tmp_path / "shared.json", 0.0):
        pass
    assert os.listdir(tmp_path) == ["shared.json"] and (tmp_path / "shared.json").read_text() == "content"


def test_a_link_and_its_file_are_the_same_file(tmp_path):
    (tmp_path / "shared.json").touch()
    (tmp_path / "link.json").symlink_to(tmp_path / "shared.json")
    with (
        locked(tmp_path / "shared.json"),
        pytest.raises(TimeoutError),
        locked(tmp_path / "link.json", 0.0),
    ):
        pass
