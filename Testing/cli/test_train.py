"""`ape-localizer train` as a user meets it: what it prints, writes and refuses."""

import errno
import hashlib
import json
import shutil
import signal

import pytest
import torch

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.program import build_parser, main
from APELocalizerLib.cli.train import settings
from APELocalizerLib.core.base.locks import locked
from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from APELocalizerLib.core.model.registry import load_model
from APELocalizerLib.training.run import benchmark, files, plan
from APELocalizerLib.training.run.costs import activation_bytes, parameter_count, training_flops
from APELocalizerLib.training.run.trainer import Trainer
from made_up.files import write_landmarks, write_torso
from made_up.trainings import TINY, save_settings, tiny_config


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two phantoms with landmarks, and a cache of them."""
    folder = tmp_path_factory.mktemp("command")
    changes = {"one": {}, "two": {"scale": 0.9, "shift": (5, 0, 10)}}
    for case, changed in changes.items():
        write_torso(folder / "scans" / f"{case}.nii.gz", **changed)
    write_landmarks(folder / "landmarks.csv", changes)
    return folder


@pytest.fixture
def command(place, tmp_path, capsys):
    """Run `train` on tiny settings; returns exit code, output and errors."""
    settings = save_settings(tiny_config("x", [place / "scans"], cache=str(place / "cache")), tmp_path / "s.json")

    def run(*words, config=settings, out=tmp_path / "out"):
        given = ["--config", config] if config else []
        try:
            code = main([str(word) for word in ("train", "--out", out, *given, *words)])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_training_prints_the_model_that_other_commands_read(command, tmp_path):
    code, output, errors = command("--steps", 2)
    assert (code, errors) == (0, "") and output.strip() == str(tmp_path / "out" / "model.pt")
    assert load_model(output.strip()).network == TINY


def test_the_folder_alone_is_enough_to_go_on(command, tmp_path):
    assert command("--steps", 2)[0] == 0
    code, _, errors = command("--steps", 4, config=None)
    assert (code, errors) == (0, "")
    assert torch.load(tmp_path / "out" / "state.pt", weights_only=True)["step"] == 4


def test_other_settings_are_not_mixed_with_a_begun_training(command):
    assert command("--steps", 2)[0] == 0
    code, output, errors = command("--learning-rate", 0.5)
    assert code == 1 and output == "" and "learning_rate" in errors and errors.count("\n") == 1


def test_ctrl_c_keeps_the_steps_done_and_says_so(command, tmp_path, monkeypatch):
    """The first Ctrl+C comes in the second step; the same command goes on to the end."""
    step = Trainer.train_step

    def interrupted(trainer):
        if trainer.step == 1:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        code, output, errors = command("--steps", 6)
    assert (code, output) == (130, "") and errors.count("\n") == 1
    assert "Stopped and saved at step 2 of 6; the same command goes on from there." in errors
    assert command("--steps", 6)[0] == 0


def test_a_second_training_in_one_folder_is_refused(command, tmp_path):
    with locked(tmp_path / "out" / "state.pt"):
        code, output, errors = command("--steps", 2)
    assert (code, output) == (1, "") and errors.count("\n") == 1
    assert "Another training is running in “" in errors and "choose another --out" in errors
    assert not (tmp_path / "out" / "metrics.csv").exists()
    assert command("--steps", 2)[0] == 0 and not list((tmp_path / "out").glob(".*")), "the lock is gone"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_full_disk_is_told_in_a_sentence_with_what_was_kept(command, tmp_path, monkeypatch, error):
    """The disk is full at the second save, after step 4; the first one, of step 2, is good to go on from."""
    save, saves = files.torch.save, []

    def full(values, path):
        if "optimizer" in values:
            saves.append(path)
            if len(saves) == 2:
                raise error
        save(values, path)

    with monkeypatch.context() as patch:
        patch.setattr(files.torch, "save", full)
        code, output, errors = command("--steps", 6)
    assert (code, output) == (1, "") and errors.count("\n") == 1
    assert "Check free space" in errors and "kept at step 2; the same command goes on from there" in errors
    assert command("--steps", 6)[0] == 0 and not list((tmp_path / "out").glob(".*"))


def test_an_output_that_cannot_be_a_folder_is_told_before_anything_is_read(command, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    code, output, errors = command("--steps", 2, out=tmp_path / "file" / "out")
    assert (code, output) == (1, "") and "Check free space and write permission" in errors


def test_a_dry_run_tells_and_writes_nothing(command, place, tmp_path):
    before = sorted(place.rglob("*"))
    words = ("--scans", place / "scans", "--landmarks", place / "landmarks.csv", "--threads", 1)
    code, output, _ = command(*words, "--dry-run", config=None)
    assert code == 0 and not (tmp_path / "out").exists() and sorted(place.rglob("*")) == before
    for told in ("Recipe anchored", "Scans: 2 (one, two)", "learn from: 2 of", "20000", "6 crops", "voxels at", "MB"):
        assert told in output
    code, output, _ = command("--dry-run")
    assert code == 0 and "2 pairs" not in output and "4 crops of 32 x 32 x 32 voxels" in output


def test_a_dry_run_tries_scans_whose_annotations_suffice(command, place, tmp_path):
    """The table begins with a scan that has too few, and names one that is not there; boxes suffice as well."""
    boxes = ["case,name,rmin,rmax,amin,amax,smin,smax"]
    boxes += [f"two,organ {n},0,{n},0,{n},0,{n}" for n in (20, 30, 40)]
    (tmp_path / "boxes.csv").write_text("\n".join(boxes), encoding="utf-8")
    (tmp_path / "few.csv").write_text("case,name,r_mm,a_mm,s_mm\none,carina,0,0,0\nthree,carina,0,0,0\n")
    words = ("--scans", place / "scans", "--boxes", tmp_path / "boxes.csv", "--threads", 1, "--dry-run")
    code, output, errors = command(*words, "--landmarks", tmp_path / "few.csv", config=None)
    assert (code, errors) == (0, "")
    for told in ("Recipe anchored", "learn from: 1 of", "No scan is called three,", "1 scan has too few landmarks"):
        assert told in output
    assert "1 of them are kept" in output and "No scan is called two" not in output
    code, output, errors = command(*words, config=None)
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
def test_a_dry_run_refuses_what_the_training_would_refuse(command, tmp_path, monkeypatch, words, told):
    out = tmp_path / "out"
    assert command("--steps", 2)[0] == 0
    words = [word.format(out=out) for word in words]
    code, output, errors = command(*words, "--dry-run", out=out if "0.5" in words else tmp_path / "fresh")
    assert code == 1 and output == "" and told in errors and errors.count("\n") == 1


def test_a_dry_run_names_a_damaged_save(command, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "state.pt").write_bytes(b"half a save")
    code, output, errors = command("--dry-run")
    assert code == 1 and output == "" and "is damaged" in errors and errors.count("\n") == 1


@pytest.mark.parametrize("words", [("--dry-run",), ("--benchmark", 500)])
@pytest.mark.parametrize("when", [0, 4])
def test_the_first_interrupt_ends_trials_too(command, monkeypatch, words, when):
    """At once, and while items are drawn: the scans are prepared in three calls."""
    asked = []
    monkeypatch.setattr(Console, "cancelled", lambda console: asked.append(1) or len(asked) > when)
    code, output, errors = command(*words)
    assert code == 130 and output == "" and errors.count("\n") == 1 and len(asked) == when + 1


def test_a_dry_run_counts_the_steps_that_are_done(command):
    assert command("--steps", 2)[0] == 0
    assert "of which 2 are done" in command("--steps", 9, "--dry-run")[1]


def test_landmarks_choose_the_anchored_preset(command, place, tmp_path):
    words = ("--scans", place / "scans", "--steps", 1, "--batch", 1, "--cache", tmp_path / "cache", "--threads", 1)
    code, output, errors = command(*words, "--landmarks", place / "landmarks.csv", config=None)
    assert (code, errors) == (0, "")
    model = load_model(output.strip())
    assert model.anchored and model.one_pass
    saved = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert saved["preset"] == "anchored" and saved["scale"] == list(model.scale)
    code, _, errors = command(*words[:2], "--steps", 2, *words[4:], "--landmarks", place / "landmarks.csv", config=None)
    assert (code, errors) == (0, ""), "the same command goes on, although the scale was found from the scans"


def test_fewer_steps_shorten_the_warm_up(place, tmp_path):
    def warm_up(*words):
        given = ("train", "--scans", place / "scans", "--out", tmp_path / "out", *words)
        return settings(build_parser().parse_args([str(word) for word in given])).optimization.warm_up_steps

    assert warm_up("--preset", "released") == warm_up("--preset", "released", "--steps", 400_000) == 10_000
    assert warm_up("--preset", "released", "--steps", 5000) == 167
    assert warm_up("--steps", 100) == 3 and warm_up("--steps", 1) == 1 and warm_up() == 300
    assert warm_up("--preset", "ape-equiv", "--steps", 100) == 0


def test_options_change_the_settings(command, tmp_path):
    words = "--steps 1 --batch 2 --no-virtual-patients --seed 5 --schedule constant --accumulate 2".split()
    assert command(*words)[0] == 0
    saved = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert saved["pairs"]["patients"] == 2 and saved["pairs"]["virtual"] is False
    assert (saved["seed"], saved["schedule"], saved["accumulate"], saved["max_steps"]) == (5, "constant", 2, 1)


def test_a_benchmark_measures_and_keeps_no_training(command, tmp_path):
    code, output, _ = command("--benchmark", 2)
    assert code == 0 and "steps/s" in output and "matrix product peak" in output
    shares = [int(word) for word in output.replace("%", " % ").split() if word.isdigit()]
    assert all(0 <= share <= 100 for share in shares)
    assert not (tmp_path / "out" / "state.pt").exists()


@pytest.mark.parametrize(("module", "words"), [(plan, ("--dry-run",)), (benchmark, ("--benchmark", 1))])
def test_trials_tell_that_memory_ran_out(command, monkeypatch, module, words):
    def fail(*arguments, **keywords):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to")

    monkeypatch.setattr(module, "set_up", fail)
    code, output, errors = command(*words)
    assert code == 1 and output == "" and "Not enough memory" in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--scans"),
        (("--scans", "absent"), "Check the path"),
        (("--scans", "{place}/scans", "--preset", "anchored"), "landmarks"),
        (("--scans", "{place}/scans", "--landmarks", "absent.csv"), "does not exist"),
        (("--scans", "{place}/scans", "--landmarks", "{place}/wrong.csv"), "lacks the column"),
        (("--scans", "{place}/scans", "--steps", "0"), "at least 1"),
        (("--scans", "{place}/scans", "--validate-every", "0"), "at least 1"),
        (("--scans", "{place}/scans", "--learning-rate", "nan"), "above 0"),
        (("--scans", "{place}/scans", "--minutes", "0"), "above 0"),
        (("--scans", "{place}/scans", "--seed", "-1"), "at least 0"),
        (("--scans", "{place}/scans", "--device", "cuda:7"), "cuda"),
        (("--scans", "{place}/scans", "--held-out", "nobody"), "nobody"),
        (("--scans", "{place}/scans", "--initial-weights", "absent.pt"), "absent.pt"),
        (("--config", "absent.json"), "absent.json"),
        (("--config", "{place}/wrong.csv"), "not a settings file"),
    ],
)
def test_mistakes_are_one_sentence(command, place, words, told):
    (place / "wrong.csv").write_text("case,name,r,a,s\n")
    words = [word.format(place=place) for word in words]
    words += ["--cache", place / "cache"] if "--scans" in words else []
    code, output, errors = command(*words, config=None)
    assert code == 1 and output == "" and told in errors
    assert errors.startswith("ape-localizer: ") and errors.count("\n") == 1 and errors.rstrip()[-1] in ".)"


def test_weights_of_a_model_begin_another_training(command, tmp_path):
    _, first, _ = command("--steps", 1)
    code, _, errors = command("--steps", 1, "--initial-weights", first.strip(), out=tmp_path / "second")
    assert (code, errors) == (0, "")
    shutil.rmtree(tmp_path / "second")
    code, _, errors = command(
        "--steps", 1, "--initial-weights", first.strip(), "--network", "small", out=tmp_path / "second"
    )
    assert code == 1 and "another network" in errors


def test_costs_are_those_of_the_real_network():
    """Published figures: 31 384 351 parameters, 13.417 GFLOP forward for 96 x 96 x 64 voxels."""
    assert parameter_count(NetworkConfig.published()) == 31_384_351
    assert training_flops(NetworkConfig.published(), (1, 1, 96, 96, 64)) == pytest.approx(3 * 13.417e9, rel=1e-3)
    kept = []
    network, image = APENetwork(TINY), torch.rand(2, 1, 32, 40, 48)
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        network(image)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    expected = sum(size for address, size in storages.items() if address not in own)
    assert activation_bytes(TINY, (2, 1, 32, 40, 48)) == pytest.approx(expected, rel=0.05)


def test_settings_alone_name_the_folder_of_the_training(place, tmp_path, capsys):
    config = tiny_config(tmp_path / "named", [place / "scans"], max_steps=1, cache=str(tmp_path / "cache"))
    assert main(["train", "--config", str(save_settings(config, tmp_path / "settings.json"))]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "named" / "model.pt")
    assert main(["train"]) == 1 and "--out" in capsys.readouterr().err


def test_a_training_becomes_the_model_that_is_shipped(command, place, tmp_path):
    words = ("--scans", place / "scans", "--steps", 1, "--batch", 1, "--cache", tmp_path / "cache", "--threads", 1)
    assert command(*words, "--landmarks", place / "landmarks.csv", config=None)[0] == 0
    code, output, errors = command("--ship", tmp_path / "shipped", "--threshold", 9.5, config=None)
    assert (code, errors, output.strip()) == (0, "", str(tmp_path / "shipped" / "default.pt"))
    model = load_model(output.strip())
    card = json.loads((tmp_path / "shipped" / "default.json").read_text(encoding="utf-8"))
    assert model.round_trip_threshold_mm == 9.5 and model.license == card["licence"] == "MIT"
    assert card["sha256"] == hashlib.sha256((tmp_path / "shipped" / "default.pt").read_bytes()).hexdigest()
    code, _, errors = command("--ship", tmp_path / "shipped", out=tmp_path / "nothing", config=None)
    assert code == 1 and "export.pt" in errors and errors.count("\n") == 1
