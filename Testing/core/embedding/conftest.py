"""A model whose maps hold what its network says, and a way to give it another network."""

import pytest

from APELocalizerLib.core.model.model import Model
from made_up.models import plain_model


@pytest.fixture
def using(monkeypatch):
    """Let every model build the given network."""

    def use(network):
        monkeypatch.setattr(Model, "build_network", lambda self: network)
        return network

    return use


@pytest.fixture(scope="session")
def model():
    return plain_model()
