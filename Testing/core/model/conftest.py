"""A server on this computer that behaves well, badly, or not at all, and a computer that knows one model of it."""

import http.server
import threading
import urllib.request

import pytest

from APELocalizerLib.core.model import download as download_module
from APELocalizerLib.core.model import registry as registry_module
from APELocalizerLib.core.model.known_models import RegistryEntry
from APELocalizerLib.core.model.model_files import save_model
from APELocalizerLib.core.model.registry import MODELS_VARIABLE
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
        if "://" in self.behavior and request.path == "/tiny.pt":
            request.send_response(302)
            request.send_header("Location", self.behavior)
            request.send_header("Content-Length", "0")
            return request.end_headers()
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


@pytest.fixture
def fresh_computer(tmp_path, monkeypatch):
    """An empty cache, no proxy, no model folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 4096)


@pytest.fixture
def known(fresh_computer, server, monkeypatch):
    """A registry with one model, on the server."""
    tiny = RegistryEntry("tiny", "Tiny", "tiny.pt", "none", "none", "none", None, None, server.url)
    monkeypatch.setattr(registry_module, "registry", lambda: (tiny,))
    return tiny
