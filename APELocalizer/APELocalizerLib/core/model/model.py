"""Models: network weights together with everything that decides what an embedding means.

Preprocessing, spacings, per-axis scale and the not-found threshold are part of a model and saved in its file, so
that an embedding learned with it is reproducible. Files hold tensors and JSON text only and are read with
`weights_only=True`: opening one never runs code.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.base.geometry import triple
from APELocalizerLib.core.model.embedding_network import EmbeddingNetwork
from APELocalizerLib.core.model.network_config import NetworkSettings
from APELocalizerLib.core.model.networks import build_network, settings_to_dict
from APELocalizerLib.core.preparation.config import PreparationConfig

Spacing = tuple[float, float, float]

PUBLISHED_PRESETS: dict[str, tuple[Spacing, ...]] = {
    "fine": ((1.0, 1.0, 1.5),),
    "standard": ((2.0, 2.0, 3.0),),
    "fast": ((4.0, 4.0, 6.0),),
}
"""Spacings (posterior, left, inferior; mm) that the published network is run at. Each lies in its training range."""

DEFAULT_SCALE_MM = 500.0
"""Scale of a published model's outputs until it is calibrated: the outputs 0..1 span about half a meter."""

DEFAULT_THRESHOLD_MM = 50.0

SPACING_LIMITS_MM = (0.2, 30.0)
"""No network sees anatomy in finer or coarser voxels."""


@dataclass(frozen=True, eq=False)
class Model:
    """Weights and their meaning.

    `presets` names the spacings (mm along posterior, left, inferior) the network is run at; several spacings in one
    preset are averaged. An embedding in mm is `offset + scale * network output`, channel by channel. With `anchored`
    the three channels are the R, A, S mm of an average patient; otherwise only distances between embeddings have a
    meaning.
    `one_pass` says that the network was trained on whole scans and is run without tiles unless asked otherwise.
    `padding` says how a scan smaller than a tile is filled up: "mask" (zeros, told to the network by its visibility
    mask) or "edge" (the last voxel repeated), as in training.
    """

    name: str
    network: NetworkSettings
    preparation: PreparationConfig
    state: Mapping[str, torch.Tensor] = field(repr=False)
    presets: Mapping[str, tuple[Spacing, ...]] = field(default_factory=lambda: dict(PUBLISHED_PRESETS))
    scale: tuple[float, ...] = (DEFAULT_SCALE_MM,) * 3
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    anchored: bool = False
    one_pass: bool = False
    padding: str = "mask"
    round_trip_threshold_mm: float = DEFAULT_THRESHOLD_MM
    license: str = ""
    citation: str = ""
    training_data: str = ""

    def __post_init__(self) -> None:
        if self.padding not in ("mask", "edge"):
            raise ModelError(f'A model pads small scans with "mask" or "edge", not with "{self.padding}".')
        channels = self.network.embedding_dim
        if not _numbers(self.scale, 1e-3, 1e6, channels) or not _numbers(self.offset, -1e6, 1e6, channels):
            raise ModelError(
                f"A model's scale and offset are {channels} numbers in mm each, one per channel, and the scale is "
                "above 0."
            )
        if not _numbers([self.round_trip_threshold_mm] * 3, 0, 1e6):
            raise ModelError("A model's threshold of the round trip is a number of mm from 0.")
        if not self.presets or not all(
            spacings and all(_numbers(spacing, *SPACING_LIMITS_MM) for spacing in spacings)
            for spacings in self.presets.values()
        ):
            low, high = SPACING_LIMITS_MM
            raise ModelError(f"A model's spacings are three numbers each, from {low:g} to {high:g} mm.")

    @cached_property
    def id(self) -> str:
        """Name and a hash of the configuration and weights: embeddings are comparable only within one id."""
        digest = hashlib.sha256(json.dumps(self._meaning(), sort_keys=True).encode())
        for key, tensor in self.state.items():
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
        return f"{self.name}@{digest.hexdigest()[:12]}"

    def spacings(self, preset: str) -> tuple[Spacing, ...]:
        """The spacings of a preset; raises `ModelError` for an unknown name."""
        if preset not in self.presets:
            raise ModelError(f'This model has no spacing "{preset}". Choose one of: {", ".join(self.presets)}.')
        return self.presets[preset]

    def build_network(self) -> EmbeddingNetwork:
        """The network with these weights, fp32, in evaluation mode, on the CPU."""
        with torch.device("meta"):  # random initial weights would take longer than all else here
            network = build_network(self.network)
        weights = {key: value.to("cpu", torch.float32, copy=True) for key, value in self.state.items()}
        network.load_state_dict(weights, assign=True)
        return network.eval().requires_grad_(False)

    def with_scale(self, scale: tuple[float, float, float]) -> "Model":
        """The same weights with another per-axis scale (see `calibration.calibrate_scale`); this changes the id."""
        return dataclasses.replace(self, scale=triple(scale))

    def _meaning(self) -> dict:
        """What decides an embedding's value, as JSON. Thresholds and texts are left out: they do not change it."""
        return {
            "network": settings_to_dict(self.network),
            "preparation": self.preparation.to_dict(),
            "presets": {name: [list(s) for s in spacings] for name, spacings in self.presets.items()},
            "scale": list(self.scale),
            "offset": list(self.offset),
            "one_pass": self.one_pass,
            "padding": self.padding,
        }

    def description(self) -> dict:
        """All but the weights, as JSON, as it is kept in a model file."""
        return {
            **self._meaning(),
            "name": self.name,
            "anchored": self.anchored,
            "round_trip_threshold_mm": self.round_trip_threshold_mm,
            "licence": self.license,
            "citation": self.citation,
            "training_data": self.training_data,
        }


def _numbers(values: Sequence[float], low: float, high: float, count: int = 3) -> bool:
    """Whether these are `count` finite numbers within limits."""
    plain = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return len(values) == count and plain and all(low <= value <= high for value in values)
