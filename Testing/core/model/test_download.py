"""Fetching a model from a server that behaves well, badly, or not at all."""

import dataclasses
import hashlib
import io
import json
import os
import urllib.error
import urllib.request

import pytest

from APELocalizerLib.core.base.errors import Cancelled, ModelError
from APELocalizerLib.core.model import registry as registry_module
from APELocalizerLib.core.model.download import SafeRedirects
from APELocalizerLib.core.model.registry import (
    cache_folder,
    fetch,
    find_file,
    load_model,
    remove,
)
from made_up.models import tiny_model

pytestmark = pytest.mark.usefixtures("fresh_computer")


def files_in_cache() -> list[str]:
    return sorted(os.listdir(cache_folder()))


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


# What a server may not do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ftp", "file", "gopher"])
def test_a_redirect_off_the_web_is_refused(known, server, scheme):
    server.behavior = f"{scheme}://127.0.0.1/tiny.pt"
    with pytest.raises(ModelError, match="not safe|is not allowed"):
        fetch("tiny")
    assert find_file("tiny") is None


def test_a_redirect_from_https_to_http_is_refused_and_one_to_https_is_followed():
    asked = urllib.request.Request("https://models.invalid/a.pt")
    redirects = SafeRedirects()
    with pytest.raises(ModelError, match="not safe"):
        redirects.redirect_request(asked, None, 302, "Found", {}, "http://models.invalid/b.pt")
    followed = redirects.redirect_request(asked, None, 302, "Found", {}, "https://other.invalid/b.pt")
    assert followed.full_url == "https://other.invalid/b.pt"


def test_a_redirect_to_the_same_kind_of_address_is_followed(known, server, model_bytes):
    server.behavior = server.url.replace("tiny.pt", "moved.pt")
    assert fetch("tiny").read_bytes() == model_bytes
    assert [path for path, _ in server.requests] == ["/tiny.pt", "/moved.pt"]


@pytest.mark.parametrize("length", [None, "abc", "-5", "100000000000"])
def test_what_is_larger_than_a_model_is_not_kept(known, monkeypatch, length):
    class Endless(io.BytesIO):
        status, headers = 200, {"Content-Length": length} if length else {}

        def read(self, size=-1):
            return bytes(size)

    monkeypatch.setattr(registry_module, "MOST_BYTES", 50_000)
    with pytest.raises(ModelError, match="larger than a model"):
        fetch("tiny", open_url=lambda request, timeout: Endless())
    assert files_in_cache() == []


@pytest.mark.parametrize("length", ["abc", "", "-1"])
def test_a_length_that_is_none_does_not_matter(known, model_bytes, length):
    class Odd(io.BytesIO):
        status, headers = 200, {"Content-Length": length}

    assert fetch("tiny", open_url=lambda request, timeout: Odd(model_bytes)).read_bytes() == model_bytes


def test_a_second_download_of_the_same_model_is_refused_while_the_first_runs(known, model_bytes):
    refusals = []

    class Slow(io.BytesIO):
        status, headers = 200, {"Content-Length": str(len(model_bytes))}

        def read(self, size=-1):
            if not refusals:
                with pytest.raises(ModelError, match="Another program is downloading") as refusal:
                    fetch("tiny")
                refusals.append(str(refusal.value))
            return super().read(size)

    assert fetch("tiny", open_url=lambda request, timeout: Slow(model_bytes)).read_bytes() == model_bytes
    assert refusals and files_in_cache() == ["tiny.pt", "tiny.pt.sha256.json"]
