"""Known models: where their files lie, which are trusted, and files from elsewhere."""

import dataclasses
import os
import socket
import urllib.error
import urllib.request

import pytest

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.model import registry as registry_module
from APELocalizerLib.core.model.model_files import save_model
from APELocalizerLib.core.model.registry import (
    MODELS_VARIABLE,
    cache_folder,
    entry,
    fetch,
    find_file,
    load_model,
    registry,
    remove,
    sha256_of,
)
from made_up.models import tiny_model

pytestmark = pytest.mark.usefixtures("fresh_computer")


def files_in_cache() -> list[str]:
    return sorted(os.listdir(cache_folder()))


# What is known -----------------------------------------------------------------------------------------------------


def test_the_registry_tells_what_a_user_must_know():
    default, published = registry()
    assert (default.id, published.id) == ("default", "ape-published")
    assert default.url is None, "the default comes with the extension"
    assert published.url.endswith("/a743d914ca8ba47d4e7371c6906c40c976437685/ape.pt"), "the revision is pinned"
    assert published.url.startswith("https://huggingface.co/mishgon/ape/")
    assert "CC BY-NC-SA" in published.license and "AbdomenAtlas" in published.training_data
    assert "2409.10291" in published.citation
    with pytest.raises(ModelError, match='no model "ape". Known models: default, ape-published'):
        entry("ape")


def test_the_embedded_default_is_what_its_card_says():
    path = find_file("default")
    if path is None:
        pytest.skip("no embedded weights in this checkout")
    known = entry("default")
    assert path.stat().st_size == known.size_bytes <= 5_000_000
    assert sha256_of(path) == known.sha256
    assert load_model("default").id == load_model(path).id


def test_nothing_but_fetch_uses_the_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was used unasked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    registry()
    assert find_file("ape-published") is None
    with pytest.raises(ModelError, match=f"are not on this computer. Download them .*{MODELS_VARIABLE}"):
        load_model("ape-published")
    assert not cache_folder().exists(), "and nothing is made on disk"


def test_a_missing_embedded_model_is_not_offered_for_download(monkeypatch, tmp_path):
    monkeypatch.setattr(registry_module, "RESOURCES", tmp_path)
    with pytest.raises(ModelError, match="Install the extension again"):
        load_model("default")
    with pytest.raises(ModelError, match="comes with the extension; there is nothing to download"):
        fetch("default")


def test_any_model_file_can_be_loaded_by_its_path(model_bytes, tmp_path):
    (tmp_path / "mine.pt").write_bytes(model_bytes)
    assert load_model(tmp_path / "mine.pt").id == tiny_model().id
    assert load_model(str(tmp_path / "mine.pt")).id == tiny_model().id
    with pytest.raises(ModelError, match="absent.pt does not exist"):
        load_model(tmp_path / "absent.pt")
    with pytest.raises(ModelError, match='no model "standard". Known models: default'):
        load_model("standard")


# Trust -------------------------------------------------------------------------------------------------------------


def test_a_file_that_changed_since_its_download_is_refused(known):
    path = fetch("tiny")
    save_model(tiny_model(seed=1), path)
    with pytest.raises(ModelError, match="differ from those recorded for it"):
        load_model("tiny")


def test_another_file_under_the_same_address_is_refused_and_the_old_one_kept(known, server, model_bytes, tmp_path):
    fetch("tiny")
    save_model(tiny_model(seed=1), tmp_path / "other.pt")
    server.content = (tmp_path / "other.pt").read_bytes()
    with pytest.raises(ModelError, match="differ from those recorded"):
        fetch("tiny")
    assert (cache_folder() / "tiny.pt").read_bytes() == model_bytes
    assert files_in_cache() == ["tiny.pt", "tiny.pt.sha256.json"]
    remove("tiny")
    with pytest.raises(ModelError, match="differ from those recorded"):
        fetch("tiny")
    assert find_file("tiny") is None, "the record outlives the file"


def test_a_hash_of_the_registry_is_checked(known, monkeypatch):
    pinned = dataclasses.replace(known, sha256="0" * 64)
    monkeypatch.setattr(registry_module, "registry", lambda: (pinned,))
    with pytest.raises(ModelError, match="differ from those recorded"):
        fetch("tiny")
    assert files_in_cache() == []


def test_a_damaged_record_is_said_to_be_damaged(known):
    fetch("tiny")
    (cache_folder() / "tiny.pt.sha256.json").write_text("{")
    with pytest.raises(ModelError, match="tiny.pt.sha256.json.* damaged"):
        load_model("tiny")


# Without a network -------------------------------------------------------------------------------------------------


def test_a_file_from_elsewhere_takes_the_place_of_the_download(known, server, model_bytes, tmp_path):
    (tmp_path / "from a stick.pt").write_bytes(model_bytes)
    path = fetch("tiny", offline_file=tmp_path / "from a stick.pt")
    assert path.read_bytes() == model_bytes and files_in_cache() == ["tiny.pt", "tiny.pt.sha256.json"]
    assert server.requests == []
    assert load_model("tiny").id == tiny_model().id
    with pytest.raises(ModelError, match="does not exist"):
        fetch("tiny", offline_file=tmp_path / "absent.pt")


def test_a_wrong_file_from_elsewhere_is_refused(known, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear colleague")
    with pytest.raises(ModelError, match="not a model file"):
        fetch("tiny", offline_file=tmp_path / "letter.txt")
    assert files_in_cache() == []
    assert (tmp_path / "letter.txt").exists()


def test_a_folder_of_models_comes_first(known, monkeypatch, tmp_path):
    fetch("tiny")
    shared = tmp_path / "shared models"
    shared.mkdir()
    monkeypatch.setenv(MODELS_VARIABLE, str(shared))
    assert find_file("tiny") == cache_folder() / "tiny.pt"
    (shared / "tiny.pt").write_bytes((cache_folder() / "tiny.pt").read_bytes())
    assert find_file("tiny") == shared / "tiny.pt"
    assert load_model("tiny").id == tiny_model().id
    save_model(tiny_model(seed=1), shared / "tiny.pt")
    with pytest.raises(ModelError, match="differ from those recorded"):
        load_model("tiny")


# Trust at the first use, and computers where little may be written --------------------------------------------------


def test_the_hash_of_a_model_brought_by_hand_is_recorded_at_its_first_use_and_said(
    known, monkeypatch, tmp_path, caplog
):
    save_model(tiny_model(), tmp_path / "tiny.pt")
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    load_model("tiny")
    (said,) = caplog.messages
    assert sha256_of(tmp_path / "tiny.pt") in said and "recorded" in said
    load_model("tiny")
    assert caplog.messages == [said], "only the first time"
    save_model(tiny_model(seed=1), tmp_path / "tiny.pt")
    with pytest.raises(ModelError, match="differ from those recorded"):
        load_model("tiny")


def test_a_user_without_home_has_the_models_that_are_there(known, monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", no_home)
    save_model(tiny_model(), tmp_path / "tiny.pt")
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    assert load_model("tiny").id == tiny_model().id
    with pytest.raises(ModelError, match="no home folder.*Set HOME"):
        fetch("tiny")


def test_the_model_of_the_extension_cannot_be_removed_and_that_is_said():
    with pytest.raises(ModelError, match="comes with the extension and cannot be removed"):
        remove("default")


@pytest.mark.parametrize("version, safe", [("2.5.1+cu121", False), ("2.6.0", True), ("2.10.0", True), ("3.0", True)])
def test_an_old_pytorch_opens_only_models_known_by_their_hash(monkeypatch, tmp_path, version, safe):
    """CVE-2025-32434: before 2.6, loading weights alone could run code."""
    save_model(tiny_model(), tmp_path / "mine.pt")
    monkeypatch.setattr("torch.__version__", version)
    if safe:
        assert load_model(tmp_path / "mine.pt").id == tiny_model().id
    else:
        with pytest.raises(ModelError, match="Update PyTorch to 2.6"):
            load_model(tmp_path / "mine.pt")
    assert load_model("default").id.startswith("ape-default@")
