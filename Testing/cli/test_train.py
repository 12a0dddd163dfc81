"""`ape-localizer train` as a user meets it: what it prints, writes and refuses."""

import errno
import hashlib
import json
import shutil
import signal

import pytest
import torch

from APELocalizerLib.cli.program import build_parser, main
from APELocalizerLib.cli.train import settings
from APELocalizerLib.core.base.locks import locked
from APELocalizerLib.core.model.registry import load_model
from APELocalizerLib.training.run import files
from APELocalizerLib.training.run.trainer import Trainer
from made_up.trainings import TINY, save_settings, tiny_config


def test_a_training_prints_the_model_that_other_commands_read(train, tmp_path):
    code, output, errors = train("--steps", 2)
    assert (code, errors) == (0, "") and output.strip() == str(tmp_path / "out" / "model.pt")
    assert load_model(output.strip()).network == TINY


def test_the_folder_alone_is_enough_to_go_on(train, tmp_path):
    assert train("--steps", 2)[0] == 0
    code, _, errors = train("--steps", 4, config=None)
    assert (code, errors) == (0, "")
    assert torch.load(tmp_path / "out" / "state.pt", weights_only=True)["step"] == 4


def test_other_settings_are_not_mixed_with_a_begun_training(train):
    assert train("--steps", 2)[0] == 0
    code, output, errors = train("--learning-rate", 0.5)
    assert code == 1 and output == "" and "learning_rate" in errors and errors.count("\n") == 1


def test_ctrl_c_keeps_the_steps_done_and_says_so(train, tmp_path, monkeypatch):
    """The first Ctrl+C comes in the second step; the same command goes on to the end."""
    step = Trainer.train_step

    def interrupted(trainer):
        if trainer.step == 1:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        code, output, errors = train("--steps", 6)
    assert (code, output) == (130, "") and errors.count("\n") == 1
    assert "Stopped and saved at step 2 of 6; the same command goes on from there." in errors
    assert train("--steps", 6)[0] == 0


def test_a_second_training_in_one_folder_is_refused(train, tmp_path):
    with locked(tmp_path / "out" / "state.pt"):
        code, output, errors = train("--steps", 2)
    assert (code, output) == (1, "") and errors.count("\n") == 1
    assert "Another training is running in “" in errors and "choose another --out" in errors
    assert not (tmp_path / "out" / "metrics.csv").exists()
    assert train("--steps", 2)[0] == 0 and not list((tmp_path / "out").glob(".*")), "the lock is gone"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_full_disk_is_told_in_a_sentence_with_what_was_kept(train, tmp_path, monkeypatch, error):
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
        code, output, errors = train("--steps", 6)
    assert (code, output) == (1, "") and errors.count("\n") == 1
    assert "Check free space" in errors and "kept at step 2; the same command goes on from there" in errors
    assert train("--steps", 6)[0] == 0 and not list((tmp_path / "out").glob(".*"))


def test_an_output_that_cannot_be_a_folder_is_told_before_anything_is_read(train, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    code, output, errors = train("--steps", 2, out=tmp_path / "file" / "out")
    assert (code, output) == (1, "") and "Check free space and write permission" in errors


def test_landmarks_choose_the_anchored_preset(train, phantoms, tmp_path):
    words = ("--scans", phantoms / "scans", "--steps", 1, "--batch", 1, "--cache", tmp_path / "cache", "--threads", 1)
    code, output, errors = train(*words, "--landmarks", phantoms / "landmarks.csv", config=None)
    assert (code, errors) == (0, "")
    model = load_model(output.strip())
    assert model.anchored and model.one_pass
    saved = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert saved["preset"] == "anchored" and saved["scale"] == list(model.scale)
    code, _, errors = train(
        *words[:2], "--steps", 2, *words[4:], "--landmarks", phantoms / "landmarks.csv", config=None
    )
    assert (code, errors) == (0, ""), "the same command goes on, although the scale was found from the scans"


def test_fewer_steps_shorten_the_warm_up(phantoms, tmp_path):
    def warm_up(*words):
        given = ("train", "--scans", phantoms / "scans", "--out", tmp_path / "out", *words)
        return settings(build_parser().parse_args([str(word) for word in given])).optimization.warm_up_steps

    assert warm_up("--preset", "released") == warm_up("--preset", "released", "--steps", 400_000) == 10_000
    assert warm_up("--preset", "released", "--steps", 5000) == 167
    assert warm_up("--steps", 100) == 3 and warm_up("--steps", 1) == 1 and warm_up() == 300
    assert warm_up("--preset", "ape-equiv", "--steps", 100) == 0


def test_options_change_the_settings(train, tmp_path):
    words = "--steps 1 --batch 2 --no-virtual-patients --seed 5 --schedule constant --accumulate 2".split()
    assert train(*words)[0] == 0
    saved = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert saved["pairs"]["patients"] == 2 and saved["pairs"]["virtual"] is False
    assert (saved["seed"], saved["schedule"], saved["accumulate"], saved["max_steps"]) == (5, "constant", 2, 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--scans"),
        (("--scans", "absent"), "Check the path"),
        (("--scans", "{phantoms}/scans", "--preset", "anchored"), "landmarks"),
        (("--scans", "{phantoms}/scans", "--landmarks", "absent.csv"), "does not exist"),
        (("--scans", "{phantoms}/scans", "--landmarks", "{phantoms}/wrong.csv"), "lacks the column"),
        (("--scans", "{phantoms}/scans", "--steps", "0"), "at least 1"),
        (("--scans", "{phantoms}/scans", "--validate-every", "0"), "at least 1"),
        (("--scans", "{phantoms}/scans", "--learning-rate", "nan"), "above 0"),
        (("--scans", "{phantoms}/scans", "--minutes", "0"), "above 0"),
        (("--scans", "{phantoms}/scans", "--seed", "-1"), "at least 0"),
        (("--scans", "{phantoms}/scans", "--device", "cuda:7"), "cuda"),
        (("--scans", "{phantoms}/scans", "--held-out", "nobody"), "nobody"),
        (("--scans", "{phantoms}/scans", "--initial-weights", "absent.pt"), "absent.pt"),
        (("--config", "absent.json"), "absent.json"),
        (("--config", "{phantoms}/wrong.csv"), "not a settings file"),
    ],
)
def test_mistakes_are_one_sentence(train, phantoms, words, told):
    (phantoms / "wrong.csv").write_text("case,name,r,a,s\n")
    words = [word.format(phantoms=phantoms) for word in words]
    words += ["--cache", phantoms / "cache"] if "--scans" in words else []
    code, output, errors = train(*words, config=None)
    assert code == 1 and output == "" and told in errors
    assert errors.startswith("ape-localizer: ") and errors.count("\n") == 1 and errors.rstrip()[-1] in ".)"


def test_weights_of_a_model_begin_another_training(train, tmp_path):
    _, first, _ = train("--steps", 1)
    code, _, errors = train("--steps", 1, "--initial-weights", first.strip(), out=tmp_path / "second")
    assert (code, errors) == (0, "")
    shutil.rmtree(tmp_path / "second")
    code, _, errors = train(
        "--steps", 1, "--initial-weights", first.strip(), "--network", "small", out=tmp_path / "second"
    )
    assert code == 1 and "another network" in errors


def test_settings_alone_name_the_folder_of_the_training(phantoms, tmp_path, capsys):
    config = tiny_config(tmp_path / "named", [phantoms / "scans"], max_steps=1, cache=str(tmp_path / "cache"))
    assert main(["train", "--config", str(save_settings(config, tmp_path / "settings.json"))]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "named" / "model.pt")
    assert main(["train"]) == 1 and "--out" in capsys.readouterr().err


def test_a_training_becomes_the_model_that_is_shipped(train, phantoms, tmp_path):
    words = ("--scans", phantoms / "scans", "--steps", 1, "--batch", 1, "--cache", tmp_path / "cache", "--threads", 1)
    assert train(*words, "--landmarks", phantoms / "landmarks.csv", config=None)[0] == 0
    code, output, errors = train("--ship", tmp_path / "shipped", "--threshold", 9.5, config=None)
    assert (code, errors, output.strip()) == (0, "", str(tmp_path / "shipped" / "default.pt"))
    model = load_model(output.strip())
    card = json.loads((tmp_path / "shipped" / "default.json").read_text(encoding="utf-8"))
    assert model.round_trip_threshold_mm == 9.5 and model.license == card["licence"] == "MIT"
    assert card["sha256"] == hashlib.sha256((tmp_path / "shipped" / "default.pt").read_bytes()).hexdigest()
    code, _, errors = train("--ship", tmp_path / "shipped", out=tmp_path / "nothing", config=None)
    assert code == 1 and "export.pt" in errors and errors.count("\n") == 1
