"""What several core tests share."""

import pytest
import torch

from APELocalizerLib.core.embedder import embed_scan
from APELocalizerLib.core.embedding.runner import InferenceSettings
from made_up.maps import Patient, library_of, smooth_map
from made_up.models import tiny_model
from made_up.scans import body_phantom


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any connection that leaves this computer fails the test: nothing may use the network unasked."""
    import socket

    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        assert host in ("", "127.0.0.1", "localhost", "::1"), f"a test tried to reach {host}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True, scope="session")
def few_threads():
    """Tiny networks gain nothing from more threads, and lose much to waiting on a busy computer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def support_map():
    """The support: the average patient."""
    return smooth_map(name="support")


@pytest.fixture(scope="session")
def library(support_map):
    """Three landmarks, clicked on the support."""
    return library_of((Patient(), support_map))


@pytest.fixture(scope="session")
def tiny():
    """A model with a very small network."""
    return tiny_model()


@pytest.fixture(scope="session")
def torso():
    return body_phantom((50, 40, 36), (7.5, 6.0, 7.0), name="torso")


@pytest.fixture(scope="session")
def torso_map(torso, tiny):
    return embed_scan(torso, tiny, "fast", InferenceSettings(device="cpu", tile=(32, 32, 32)))
