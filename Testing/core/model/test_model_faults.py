"""Files that are no model are refused in words, and code in them is never run."""

import json
import os
import pickle
import random
from pathlib import Path

import pytest
import torch

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.model.model_files import FORMAT, read_model, save_model
from made_up.models import rich_model, tiny_model


class Malicious:
    """Pickles as a call that makes a folder."""

    def __init__(self, victim) -> None:
        self.victim = str(victim)

    def __reduce__(self):
        return os.mkdir, (self.victim,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["pickle", "torch", "inside ours"])
def test_pickled_code_is_never_run(tmp_path, kind):
    victim, path = tmp_path / "victim", tmp_path / "evil.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Malicious(victim)))
    elif kind == "torch":
        torch.save({"fpn.stem.mask_token": Malicious(victim)}, path)
    else:
        torch.save({"format": FORMAT, "version": 1, "config": "{}", "state": {"weight": Malicious(victim)}}, path)
    with pytest.raises(ModelError, match="holds program code or is not a model file; it was not opened"):
        read_model(path)
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"<html>Log in</html>", b"PK\x03\x04broken", b"\x80\x02}q\x00.", b"\x80"])
def test_files_that_are_no_models_are_refused(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ModelError, match="model.pt"):
        read_model(tmp_path / "model.pt")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        read_model(tmp_path / "absent.pt")
    with pytest.raises(ModelError, match="does not exist"):
        read_model(tmp_path)


def test_damaged_files_are_refused_whatever_the_damage(tmp_path):
    path = tmp_path / "model.pt"
    save_model(rich_model(), path)
    content, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for attempt in range(60):
        damaged = bytearray(content)
        if attempt % 2:
            damaged = damaged[: chance.randrange(len(damaged))]
        else:
            for _ in range(20):
                damaged[-1 - chance.randrange(6000)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            read_model(path)
        except ModelError:
            refused += 1
    assert refused > 50


def changed_file(path: Path, change) -> Path:
    save_model(tiny_model(), path)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def edit_config(edit):
    def change(content):
        config = json.loads(content["config"])
        edit(config)
        content["config"] = json.dumps(config)

    return change


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda c: c.update(version=2), "newer APELocalizer. Update"),
        (lambda c: c.update(version="1"), "newer APELocalizer"),
        (lambda c: c.pop("config"), "description is incomplete"),
        (lambda c: c.update(config="{"), "description is incomplete"),
        (lambda c: c.update(config="[]"), "description is incomplete"),
        (edit_config(lambda config: config.pop("scale")), "description is incomplete.*scale"),
        (edit_config(lambda config: config["network"].update(attention=True)), "attention"),
        (edit_config(lambda config: config["preparation"].update(magic=1)), "magic"),
        (edit_config(lambda config: config["network"].update(channels=[8, 16, 24, 40])), "another network"),
        (lambda c: c.pop("state"), "description is incomplete|network weights"),
        (lambda c: c["state"].popitem(), "missing: head.convs.3.weight"),
        (lambda c: c["state"].update({"head.convs.0.bias": torch.full((3,), float("inf"))}), "not numbers"),
    ],
)
def test_wrong_contents_are_refused(tmp_path, change, sentence):
    with pytest.raises(ModelError, match=sentence):
        read_model(changed_file(tmp_path / "model.pt", change))


def test_other_torch_files_are_refused(tmp_path):
    for content in ([1, 2], 5, "text", torch.zeros(3)):
        torch.save(content, tmp_path / "model.pt")
        with pytest.raises(ModelError, match="not a model file of APELocalizer"):
            read_model(tmp_path / "model.pt")
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="other than network weights"):
        read_model(tmp_path / "model.pt")
