"""`train --dry-run` and `--benchmark`: what a training would do and cost, and what it would refuse."""

import pytest

from APELocalizerLib.cli.console import Console
from APELocalizerLib.training.run import benchmark, plan


def test_a_dry_run_tells_and_writes_nothing(train, phantoms, tmp_path):
    before = sorted(phantoms.rglob("*"))
    words = ("--scans", phantoms / "scans", "--landmarks", phantoms / "landmarks.csv", "--threads", 1)
    code, output, _ = train(*words, "--dry-run", config=None)
    assert code == 0 and not (tmp_path / "out").exists() and sorted(phantoms.rglob("*")) == before
    for told in ("Recipe anchored", "Scans: 2 (one, two)", "learn from: 2 of", "20000", "6 crops", "voxels at", "MB"):
        assert told in output
    code, output, _ = train("--dry-run")
    assert code == 0 and "2 pairs" not in output and "4 crops of 32 x 32 x 32 voxels" in output


def test_a_dry_run_tries_scans_whose_annotations_suffice(train, phantoms, tmp_path):
    """The table begins with a scan that has too few, and names one that is not there; boxes suffice as well."""
    boxes = ["case,name,rmin,rmax,amin,amax,smin,smax"]
    boxes += [f"two,organ {n},0,{n},0,{n},0,{n}" for n in (20, 30, 40)]
    (tmp_path / "boxes.csv").write_text("\n".join(boxes), encoding="utf-8")
    (tmp_path / "few.csv").write_text("case,name,r_mm,a_mm,s_mm\none,carina,0,0,0\nthree,carina,0,0,0\n")
    words = ("--scans", phantoms / "scans", "--boxes", tmp_path / "boxes.csv", "--threads", 1, "--dry-run")
    code, output, errors = train(*words, "--landmarks", tmp_path / "few.csv", config=None)
    assert (code, errors) == (0, "")
    for told in ("Recipe anchored", "learn from: 1 of", "No scan is called three,", "1 scan has too few landmarks"):
        assert told in output
    assert "1 of them are kept" in output and "No scan is called two" not in output
    code, output, errors = train(*words, config=None)
    assert (code, errors) == (0, "") and "Recipe anchored" in output and "No scan is called" not in output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--held-out", "nobody"), "No scan is called “nobody”"),
        (("--held-out", "one", "two"), "none is left"),
        (("--initial-weights", "absent.pt"), "absent.pt"),
        (("--initial-weights", "{out}/model.pt", "--network", "small", "--out", "{out}/other"), "another network"),
        (("--learning-rate", "0.5"), "learning_rate"),
    ],
)
def test_a_dry_run_refuses_what_the_training_would_refuse(train, tmp_path, monkeypatch, words, told):
    out = tmp_path / "out"
    assert train("--steps", 2)[0] == 0
    words = [word.format(out=out) for word in words]
    code, output, errors = train(*words, "--dry-run", out=out if "0.5" in words else tmp_path / "fresh")
    assert code == 1 and output == "" and told in errors and errors.count("\n") == 1


def test_a_dry_run_names_a_damaged_save(train, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "state.pt").write_bytes(b"half a save")
    code, output, errors = train("--dry-run")
    assert code == 1 and output == "" and "is damaged" in errors and errors.count("\n") == 1


@pytest.mark.parametrize("words", [("--dry-run",), ("--benchmark", 500)])
@pytest.mark.parametrize("when", [0, 4])
def test_the_first_interrupt_ends_trials_too(train, monkeypatch, words, when):
    """At once, and while items are drawn: the scans are prepared in three calls."""
    asked = []
    monkeypatch.setattr(Console, "cancelled", lambda console: asked.append(1) or len(asked) > when)
    code, output, errors = train(*words)
    assert code == 130 and output == "" and errors.count("\n") == 1 and len(asked) == when + 1


def test_a_dry_run_counts_the_steps_that_are_done(train):
    assert train("--steps", 2)[0] == 0
    assert "of which 2 are done" in train("--steps", 9, "--dry-run")[1]


def test_a_benchmark_measures_and_keeps_no_training(train, tmp_path):
    code, output, _ = train("--benchmark", 2)
    assert code == 0 and "steps/s" in output and "matrix product peak" in output
    shares = [int(word) for word in output.replace("%", " % ").split() if word.isdigit()]
    assert all(0 <= share <= 100 for share in shares)
    assert not (tmp_path / "out" / "state.pt").exists()


@pytest.mark.parametrize(("module", "words"), [(plan, ("--dry-run",)), (benchmark, ("--benchmark", 1))])
def test_trials_tell_that_memory_ran_out(train, monkeypatch, module, words):
    def fail(*arguments, **keywords):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to")

    monkeypatch.setattr(module, "set_up", fail)
    code, output, errors = train(*words)
    assert code == 1 and output == "" and "Not enough memory" in errors and errors.count("\n") == 1
