"""What holds for all subcommands: usage errors, one sentence per error, progress, interruption, speed of --help."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from APELocalizerLib.cli.console import Console, table
from APELocalizerLib.core.base.errors import Cancelled
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
    assert done.code == 130 and "Cancelled" in done.errors
    assert not files.out.exists()


def test_table_sets_numbers_flush_right():
    text = table([["carina", "1.5"], ["apex", "-12.25"], ["dome", ""]], ["name", "mm"])
    assert text.splitlines() == ["name        mm", "------  ------", "carina     1.5", "apex    -12.25", "dome"]


def test_cancelling_says_what_was_finished(run, files, monkeypatch):
    from APELocalizerLib.app.runs import LocalizationRun

    real = LocalizationRun.on_scan

    def stop_at_second(self, path, *arguments):
        if path.name == "second.nii.gz":
            raise Cancelled
        return real(self, path, *arguments)

    second = files.folder / "second.nii.gz"
    shutil.copy(files.scan, second)
    monkeypatch.setattr(LocalizationRun, "on_scan", stop_at_second)
    arguments = ("--library", files.library, "--out", files.out, "--model", files.model)
    done = run("localize", files.scan, second, *arguments)
    assert done.code == 130 and "1 of 2 scans are finished" in done.errors
    assert (files.out / "support" / "results.csv").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_second_interrupt_ends_with_the_same_exit_code(run, monkeypatch):
    def stop(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("APELocalizerLib.cli.info.describe", stop)
    assert run("info", "scan.nii.gz").code == 130


def test_version_is_told_as_the_package_states_it(run):
    stated = re.search(r'^version = "(.+)"$', (MODULE.parent / "pyproject.toml").read_text(), re.MULTILINE)[1]
    done = run("--version")
    assert (done.code, done.output) == (0, f"APELocalizer {stated}\n")


def test_quiet_silences_progress_and_remarks_but_no_warning_and_no_error():
    terminal = Terminal()
    console = Console(io.StringIO(), terminal, quiet=True)
    console.progress(0.5, "Embedding")
    console.remark("Done.")
    assert terminal.getvalue() == ""
    console.warning("39 organs left out.")
    console.error("The disk is full.")
    assert "39 organs" in terminal.getvalue() and "disk is full" in terminal.getvalue()


@pytest.mark.parametrize("place", ["before", "behind"])
def test_output_options_are_taken_before_and_behind_the_command(run, place):
    options = ["--quiet", "--log-level", "debug"]
    done = run(*(options + ["info"] if place == "before" else ["info"] + options), "absent.nii.gz")
    assert done.code == 1 and "Traceback" in done.errors and "absent.nii.gz does not exist" in done.errors


def test_an_unexpected_error_is_one_sentence_with_what_to_do(run, monkeypatch):
    def fail(*_arguments):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("APELocalizerLib.cli.info.describe", fail)
    done = run("info", "scan.nii.gz")
    assert done.code == 1 and done.errors.count("\n") == 1 and "division by zero" in done.errors


@pytest.mark.skipif(sys.platform == "win32", reason="no pipe of this kind")
@pytest.mark.parametrize("arguments", [["models"], ["--help"]])
def test_a_reader_who_has_seen_enough_is_no_error(arguments):
    """As in `ape-localizer models | head -1`."""
    environment = {**os.environ, "PYTHONPATH": str(MODULE)}
    command = [sys.executable, "-m", "APELocalizerLib", *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_letters_that_a_terminal_does_not_know_stop_nothing(tmp_path, encoding):
    environment = {**os.environ, "PYTHONPATH": str(MODULE), "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "APELocalizerLib", "info", str(tmp_path / "骨.nii.gz")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1 and "does not exist" in done.stderr and "Traceback" not in done.stderr
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    stream.isatty = lambda: True
    Console(io.StringIO(), stream).progress(0.5, "Embedding")


def test_a_user_without_home_sees_the_models(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "USERPROFILE")}
    environment["PYTHONPATH"] = str(MODULE)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "def home(): raise RuntimeError('Could not determine home directory.')\n"
        "Path.home = home\n"
        "from APELocalizerLib.cli.program import main\n"
        "sys.exit(main(['models']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0 and "ready" in done.stdout and done.stderr == ""


def test_a_library_of_another_model_is_refused_before_the_scan_is_embedded(run, files, monkeypatch):
    from APELocalizerLib.app.engine import Engine
    from APELocalizerLib.core.library.files import save_library
    from APELocalizerLib.core.library.library import LandmarkLibrary

    monkeypatch.setattr(Engine, "map", None)
    other = files.folder / "other.json"
    save_library(LandmarkLibrary("other@1"), other)
    done = run("learn", files.scan, "--points", files.points, "--library", other, "--model", files.model)
    assert done.code == 1 and "other@1" in done.errors and done.errors.count("\n") == 1
