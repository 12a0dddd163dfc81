"""Kinds of networks by name, as the network settings of a model file name them.

To add one, write its settings (`network_config.NetworkSettings`) and its network (`EmbeddingNetwork`), and enter both
in `KINDS`. Settings without a kind are those of the APE network, as in all files of before there were kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.model.embedding_network import EmbeddingNetwork
from APELocalizerLib.core.model.folded_network import folded
from APELocalizerLib.core.model.network import APENetwork
from APELocalizerLib.core.model.network_config import NetworkConfig, NetworkSettings

Forward = Callable[[Tensor, Tensor | None], Tensor]
"""A network ready to be run, see `EmbeddingNetwork.forward`."""


@dataclass(frozen=True)
class NetworkKind:
    """The `settings` and the `network` of one kind, and how it is arranged `on_cpu`, where that makes it faster:
    takes the network, and whether to compute in half precision (None: where that is faster)."""

    settings: type[NetworkSettings]
    network: Callable[[Any], EmbeddingNetwork]
    on_cpu: Callable[[Any, bool | None], Forward] | None = None


KINDS: dict[str, NetworkKind] = {NetworkConfig.kind: NetworkKind(NetworkConfig, APENetwork, folded)}
"""All kinds by name."""


def build_network(config: NetworkSettings) -> EmbeddingNetwork:
    """A network with random weights. Raises `ModelError` for an unknown kind."""
    return _kind(config.kind).network(config)


def on_cpu(network: nn.Module, half: bool | None = None) -> Forward:
    """The network arranged for inference on a CPU: the same numbers, sooner, if its kind knows how.

    `half`: compute in half precision; None means where that is faster and nearly the same.
    """
    kind = KINDS.get(network.config.kind) if isinstance(network, EmbeddingNetwork) else None
    return network if kind is None or kind.on_cpu is None else kind.on_cpu(network, half)


def settings_to_dict(config: NetworkSettings) -> dict[str, Any]:
    """Network settings as plain JSON values, with their kind unless it is the APE network."""
    named = {} if config.kind == NetworkConfig.kind else {"kind": config.kind}
    return named | config.to_dict()


def settings_from_dict(values: Mapping[str, Any]) -> NetworkSettings:
    """The inverse of `settings_to_dict`. Raises `ModelError` for an unknown kind, and ValueError for wrong settings."""
    fields = dict(values)
    return _kind(fields.pop("kind", NetworkConfig.kind)).settings.from_dict(fields)


def _kind(name: object) -> NetworkKind:
    if not isinstance(name, str) or name not in KINDS:
        raise ModelError(
            f"The network is of a kind ({str(name)[:40]}) that this version of APELocalizer does not know; update the "
            "extension, or choose another model."
        )
    return KINDS[name]
