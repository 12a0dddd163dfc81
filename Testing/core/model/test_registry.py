"""Known models, and fetching one from a server on this computer that behaves well, badly, or not at all."""

import dataclasses
import hashlib
import http.server
import io
import json
import os
import socket
import threading
import urllib.error
import urllib.request

import pytest

from APELocalizerLib.core.base.errors import Cancelled, ModelError
from APELocalizerLib.core.model import registry as registry_module
from APELocalizerLib.core.model.model_files import save_model
from APELocalizerLib.core.model.registry import (
    MODELS_VARIABLE,
    RegistryEntry,
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


class Server:
    """Serves one file at /tiny.pt; `behavior` says how. Remembers the requests."""

    def __init__(self, content: bytes) -> None:
        self.content, self.behavior, self.requests = content, "ranges", []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, self.headers.get("Range")))
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/tiny.pt"

    def answer(self, request) -> None:
        if self.behavior == "missing":
            return request.send_error(404)
        start, status = 0, 200
        if request.headers.get("Range") and self.behavior != "no ranges":
            start, status = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(self.content):
                return request.send_error(416)
        body = self.content[start:]
        request.send_response(status)
        if self.behavior == "broken chunks":
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"1000\r\n" + body[:100])
            return None
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if self.behavior == "drops" else body)
        return None

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def model_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    save_model(tiny_model(), path)
    return path.read_bytes()


@pytest.fixture
def server(model_bytes):
    running = Server(model_bytes)
    yield running
    running.close()


@pytest.fixture(autouse=True)
def fresh_computer(tmp_path, monkeypatch):
    """An empty cache, no proxy, no model folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setattr(registry_module, "CHUNK_BYTES", 4096)


@pytest.fixture
def known(server, monkeypatch):
    """A registry with one model, on the server."""
    tiny = RegistryEntry("tiny", "Tiny", "tiny.pt", "none", "none", "none", None, None, server.url)
    monkeypatch.setattr(registry_module, "registry", lambda: (tiny,))
    return tiny


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


# Fetching ----------------------------------------------------------------------------------------------------------


def test_a_model_is_fetched_recorded_and_loaded(known, server, model_bytes):
    told = []
    path = fetch("tiny", progress=lambda fraction, text: told.append(fraction))
    assert path == cache_folder() / "tiny.pt" and path.read_bytes() == model_bytes
    assert json.loads((cache_folder() / "tiny.pt.sha256.json").read_text(encoding="utf-8")) == {
        "sha256": hashlib.sha256(model_bytes).hexdigest(),
        "size_bytes": len(model_bytes),
    }
    assert files_in_cache() == ["tiny.pt", "tiny.pt.sha256.json"]
    assert told == sorted(told) and told[-1] == 1.0 and len(told) > 5
    assert load_model("tiny").id == tiny_model().id
    assert server.requests == [("/tiny.pt", None)]


def test_an_interrupted_download_resumes_where_it_stopped(known, server, model_bytes):
    server.behavior = "drops"
    with pytest.raises(ModelError, match="Try again: it continues where it stopped"):
        fetch("tiny")
    half = len(model_bytes) // 2
    assert files_in_cache() == ["tiny.part"], "the model does not appear before it is complete"
    assert (cache_folder() / "tiny.part").stat().st_size == half
    with pytest.raises(ModelError, match="are not on this computer"):
        load_model("tiny")
    server.behavior = "ranges"
    told = []
    fetch("tiny", progress=lambda fraction, text: told.append(fraction))
    assert server.requests[-1] == ("/tiny.pt", f"bytes={half}-")
    assert told[0] > 0.5 and told[-1] == 1.0
    assert (cache_folder() / "tiny.pt").read_bytes() == model_bytes
    assert files_in_cache() == ["tiny.pt", "tiny.pt.sha256.json"]


def test_a_server_that_cannot_resume_sends_everything_again(known, server, model_bytes):
    server.behavior = "drops"
    with pytest.raises(ModelError):
        fetch("tiny")
    server.behavior = "no ranges"
    assert fetch("tiny").read_bytes() == model_bytes


def test_a_part_that_is_already_whole_or_too_long_starts_anew(known, server, model_bytes):
    for left in (model_bytes, model_bytes + b"more"):
        remove("tiny")
        cache_folder().mkdir(parents=True, exist_ok=True)
        (cache_folder() / "tiny.part").write_bytes(left)
        assert fetch("tiny").read_bytes() == model_bytes


def test_cancelling_keeps_what_came_for_the_next_time(known, server, model_bytes):
    told = []
    with pytest.raises(Cancelled):
        fetch("tiny", lambda fraction, text: told.append(fraction), cancelled=lambda: len(told) >= 3)
    assert files_in_cache() == ["tiny.part"]
    fetch("tiny")
    assert server.requests[-1][1] == f"bytes={3 * 4096}-"
    assert (cache_folder() / "tiny.pt").read_bytes() == model_bytes


@pytest.mark.parametrize(
    "behavior, sentence", [("missing", r"refused the download \(404"), ("broken chunks", "interrupted")]
)
def test_a_misbehaving_server_is_reported(known, server, behavior, sentence):
    server.behavior = behavior
    with pytest.raises(ModelError, match=sentence):
        fetch("tiny")
    assert find_file("tiny") is None


def test_no_server_is_reported_with_ways_out(known, server):
    server.close()
    with pytest.raises(ModelError, match="HTTPS_PROXY.*download http://127.0.0.1.*elsewhere and choose the file"):
        fetch("tiny")


@pytest.mark.parametrize(
    "failure", [TimeoutError("timed out"), ConnectionResetError("reset"), urllib.error.URLError("no name")]
)
def test_a_failing_connection_is_reported(known, failure):
    def open_url(*_, **__):
        raise failure

    with pytest.raises(ModelError, match="The download was interrupted"):
        fetch("tiny", open_url=open_url)


def test_a_connection_that_dies_while_reading_is_reported(known, model_bytes):
    class Dying(io.BytesIO):
        status, headers = 200, {"Content-Length": str(len(model_bytes))}

        def read(self, size=-1):
            if self.tell() > 8000:
                raise ConnectionResetError("reset by peer")
            return super().read(size)

    with pytest.raises(ModelError, match="interrupted.*reset by peer"):
        fetch("tiny", open_url=lambda request, timeout: Dying(model_bytes))
    assert (cache_folder() / "tiny.part").stat().st_size == 8192


def test_a_log_in_page_instead_of_the_model_is_refused_and_removed(known, server):
    server.content = b"<html>Please log in to this network</html>"
    with pytest.raises(ModelError, match="not a model file"):
        fetch("tiny")
    assert files_in_cache() == []


def test_the_proxy_of_the_environment_is_used(known, server, model_bytes, monkeypatch):
    """The test's server plays the proxy: it is asked for the whole address of a computer that does not exist."""
    away = dataclasses.replace(known, url="http://models.invalid/tiny.pt")
    monkeypatch.setattr(registry_module, "registry", lambda: (away,))
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/tiny.pt"))
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/tiny.pt"))
    assert fetch("tiny").read_bytes() == model_bytes
    assert server.requests == [("http://models.invalid/tiny.pt", None)]


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
