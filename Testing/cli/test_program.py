"""What holds for all subcommands: usage errors, one sentence per error, progress, interruption, speed of --help."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from APELocalizerLib.cli.console import Console, table
from made_up.paths import MODULE


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run_process(*arguments: str, **keywords) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(MODULE)}
    command = [sys.executable, "-m", "APELocalizerLib", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, **keywords)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["find"],
        ["learn", "scan.nii.gz", "--library", "lib.json"],
        ["learn", "scan.nii.gz", "--library", "lib.json", "--segmentation", "seg.nii.gz"],
        ["learn", "scan.nii.gz", "--points", "p.csv"],
        ["localize", "scan.nii.gz", "--library", "lib.json"],
        ["localize", "scan.nii.gz", "--library", "lib.json", "--out", "out", "--threshold", "-3"],
        ["embed", "scan.nii.gz", "--out", "map.nii.gz"],
        ["models", "--file", "ape.pt"],
        ["info"],
    ],
)
def test_wrong_usage_exits_with_two(run, arguments):
    done = run(*arguments)
    assert done.code == 2 and "usage:" in done.errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["localize", "absent.nii.gz", "--library", "absent.json", "--out", "out"],
        ["learn", "absent.nii.gz", "--points", "absent.csv", "--library", "new.json"],
        ["embed", "absent.nii.gz", "--out", "map.nrrd"],
        ["info", "absent.nii.gz"],
        ["models", "--fetch", "nonsense"],
    ],
)
def test_an_error_is_one_line_and_exits_with_one(run, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.code == 1 and done.output == ""
    assert done.errors.startswith("ape-localizer: ") and done.errors.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_answers_at_once():
    start = time.perf_counter()
    done = run_process("--help")
    assert done.returncode == 0 and "localize" in done.stdout
    assert time.perf_counter() - start < 2, "the limit is generous; a heavy import would exceed it on a busy machine"


def test_module_runs_as_a_process_and_passes_its_exit_code_on():
    assert run_process("info", "absent.nii.gz").returncode == 1
    assert run_process("nonsense").returncode == 2


def test_evaluate_is_offered_with_its_own_options(run):
    done = run("evaluate", "--help")
    assert done.code == 0 and "--landmarks" in done.output
    assert "evaluate" in run("--help").output


@pytest.mark.parametrize("name", ["learn", "localize", "embed", "models", "info", "evaluate", "build-library", "train"])
def test_every_subcommand_explains_itself_without_leftovers(run, name):
    done = run(name, "--help")
    assert done.code == 0 and "%" not in done.output.replace(" %", "") and "option_strings" not in done.output


def test_errors_of_evaluate_are_one_line_too(run, tmp_path):
    done = run("evaluate", tmp_path, "--out", tmp_path / "out")
    assert done.code == 1 and done.errors.count("\n") == 1


def test_progress_is_drawn_on_a_terminal_and_not_in_a_pipe():
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        console = Console(io.StringIO(), stream)
        console.progress(0.5, "Embedding")
        console.remark("Done.")
    assert " 50 % Embedding" in terminal.getvalue() and "Done." in terminal.getvalue()
    assert pipe.getvalue() == ""


def test_first_interrupt_asks_the_work_to_stop():
    console = Console(io.StringIO(), io.StringIO())
    with console.stoppable():
        assert not console.cancelled()
        signal.raise_signal(signal.SIGINT)
        assert console.cancelled()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_interrupted_localization_writes_nothing(run, files, monkeypatch):
    monkeypatch.setattr(Console, "cancelled", lambda self: True)
    done = run("localize", files.scan, "--library", files.library, "--out", files.out, "--model", files.model)
    assert done.code == 1 and "Cancelled" in done.errors
    assert not files.out.exists()


def test_table_sets_numbers_flush_right():
    text = table([["carina", "1.5"], ["apex", "-12.25"], ["dome", ""]], ["name", "mm"])
    assert text.splitlines() == ["name        mm", "------  ------", "carina     1.5", "apex    -12.25", "dome"]
