"""Models: network weights together with everything that decides what an embedding means.

Preprocessing, spacings, per-axis scale and the not-found threshold are part of a model and saved in its file, so
that an embedding learned with it is reproducible. Files hold tensors and JSON text only and are read with
`weights_only=True`: opening one never runs code.
"""

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from APELocalizerLib.core.base.errors import ModelError, PreparationError
from APELocalizerLib.core.base.files import replacing
from APELocalizerLib.core.base.geometry import triple
from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from APELocalizerLib.core.preparation.config import PreparationConfig

FORMAT = "APELocalizer checkpoint"
VERSION = 1

Spacing = tuple[float, float, float]

PUBLISHED_PRESETS: dict[str, tuple[Spacing, ...]] = {
    "fine": ((1.0, 1.0, 1.5),),
    "standard": ((2.0, 2.0, 3.0),),
    "fast": ((4.0, 4.0, 6.0),),
}
"""Spacings (posterior, left, inferior; mm) that the published network is run at. Each lies in its training range."""

DEFAULT_SCALE_MM = 500.0
"""Scale of a published model's outputs until it is calibrated: the outputs 0..1 span about half a metre."""

DEFAULT_THRESHOLD_MM = 50.0


@dataclass(frozen=True, eq=False)
class Model:
    """Weights and their meaning.

    `presets` names the spacings (mm along posterior, left, inferior) the network is run at; several spacings in one
    preset are averaged. An embedding in mm is `offset + scale * network output`. With `anchored` the three channels are
    the R, A, S mm of an average patient; otherwise only distances between embeddings have a meaning.
    `one_pass` says that the network was trained on whole scans and is run without tiles unless asked otherwise.
    `padding` says how a scan smaller than a tile is filled up: "mask" (zeros, told to the network by its visibility
    mask) or "edge" (the last voxel repeated), as in training.
    """

    name: str
    network: NetworkConfig
    preparation: PreparationConfig
    state: Mapping[str, torch.Tensor] = field(repr=False)
    presets: Mapping[str, tuple[Spacing, ...]] = field(default_factory=lambda: dict(PUBLISHED_PRESETS))
    scale: tuple[float, float, float] = (DEFAULT_SCALE_MM,) * 3
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
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

    def build_network(self) -> APENetwork:
        """The network with these weights, fp32, in evaluation mode, on the CPU."""
        with torch.device("meta"):  # random initial weights would take longer than all else here
            network = APENetwork(self.network)
        weights = {key: value.to("cpu", torch.float32, copy=True) for key, value in self.state.items()}
        network.load_state_dict(weights, assign=True)
        return network.eval().requires_grad_(False)

    def with_scale(self, scale: tuple[float, float, float]) -> "Model":
        """The same weights with another per-axis scale (see `calibration.calibrate_scale`); this changes the id."""
        return dataclasses.replace(self, scale=triple(scale))

    def _meaning(self) -> dict:
        """What decides an embedding's value, as JSON. Thresholds and texts are left out: they do not change it."""
        return {
            "network": self.network.to_dict(),
            "preparation": self.preparation.to_dict(),
            "presets": {name: [list(s) for s in spacings] for name, spacings in self.presets.items()},
            "scale": list(self.scale),
            "offset": list(self.offset),
            "one_pass": self.one_pass,
            "padding": self.padding,
        }

    def _description(self) -> dict:
        return {
            **self._meaning(),
            "name": self.name,
            "anchored": self.anchored,
            "round_trip_threshold_mm": self.round_trip_threshold_mm,
            "licence": self.license,
            "citation": self.citation,
            "training_data": self.training_data,
        }


def save_model(model: Model, path: str | Path, half: bool = True) -> None:
    """Write a model file, atomically; `half` stores the weights as fp16."""
    kind = torch.float16 if half else torch.float32
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": json.dumps(model._description()),
        "state": {key: value.detach().cpu().to(kind).contiguous() for key, value in model.state.items()},
    }
    with replacing(path) as beside:
        torch.save(content, beside)


def read_model(path: str | Path) -> Model:
    """Read a model file: ours, or a bare state dict of the published network.

    Raises `ModelError` for a missing or damaged file, for pickled code, and for weights of another network,
    naming the first keys that differ.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"The model file {path} does not exist.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path.name} holds program code or is not a model file; it was not opened, for safety."
        ) from error
    except Exception as error:  # a damaged file can make the unpickler raise anything
        raise ModelError(f"{path.name} is damaged or is not a model file. Download or copy it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} is not a model file of APELocalizer or of the published APE network.")
    if content.get("format") == FORMAT:
        return _from_content(content, path.name)
    return published_model(content, path.name)


def published_model(state: Mapping[str, torch.Tensor], where: str = "This file") -> Model:
    """Model of the published network from its bare state dict (`ape.pt`: 231 tensors, 31 384 351 values)."""
    network = NetworkConfig.published()
    _check_state(state, network, where)
    return Model(
        name="ape-published",
        network=network,
        preparation=PreparationConfig.published(),
        state=dict(state),
        license="MIT (weights as published; one training set is licensed for non-commercial use)",
        citation="Goncharov et al., Anatomical Positional Embeddings, arXiv:2409.10291",
        training_data="NLST, AMOS CT, AbdomenAtlas 1.0 Mini",
    )


def _from_content(content: dict, where: str) -> Model:
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise ModelError(f"{where} was written by a newer APELocalizer. Update the extension to use it.")
    try:
        config = json.loads(content["config"])
        network = NetworkConfig.from_dict(config["network"])
        _check_state(content["state"], network, where)
        return Model(
            name=config["name"],
            network=network,
            preparation=PreparationConfig.from_dict(config["preparation"]),
            state=content["state"],
            presets={name: tuple(tuple(s) for s in spacings) for name, spacings in config["presets"].items()},
            scale=tuple(config["scale"]),
            offset=tuple(config["offset"]),
            anchored=config["anchored"],
            one_pass=config["one_pass"],
            padding=config["padding"],
            round_trip_threshold_mm=config["round_trip_threshold_mm"],
            license=config["licence"],
            citation=config["citation"],
            training_data=config["training_data"],
        )
    except PreparationError as error:
        raise ModelError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{where} is a model file whose description is incomplete ({error}).") from error


def _check_state(state: Mapping, network: NetworkConfig, where: str) -> None:
    """Raise `ModelError` naming the first keys that differ from what the network needs."""
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{where} holds something other than network weights.")
    with torch.device("meta"):
        expected = APENetwork(network).state_dict()
    missing = [key for key in expected if key not in state]
    extra = [key for key in state if key not in expected]
    other = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    parts = [
        f"{text}: {', '.join(keys[:3])}{' …' if len(keys) > 3 else ''}"
        for text, keys in (("missing", missing), ("unknown", extra), ("wrong size", other))
        if keys
    ]
    if parts:
        raise ModelError(f"{where} holds weights of another network ({'; '.join(parts)}).")
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ModelError(f"{where} holds weights that are not numbers ({broken[0]}). Download or copy it again.")
