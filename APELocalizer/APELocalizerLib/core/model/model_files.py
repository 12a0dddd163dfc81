"""Model files: ours, and the published weights. What they claim is checked before it is believed."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from APELocalizerLib.core.base.errors import ModelError, PreparationError
from APELocalizerLib.core.base.files import replacing
from APELocalizerLib.core.base.packed import load_json
from APELocalizerLib.core.base.torch_version import check_loads_safely
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.network_config import NetworkConfig, NetworkSettings
from APELocalizerLib.core.model.networks import build_network, settings_from_dict
from APELocalizerLib.core.preparation.config import PreparationConfig

FORMAT = "APELocalizer checkpoint"
VERSION = 1


def save_model(model: Model, path: str | Path, half: bool = True) -> None:
    """Write a model file, atomically; `half` stores the weights as fp16."""
    kind = torch.float16 if half else torch.float32
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": json.dumps(model.description()),
        "state": {key: value.detach().cpu().to(kind).contiguous() for key, value in model.state.items()},
    }
    with replacing(path) as beside:
        torch.save(content, beside)


def read_model(path: str | Path, trusted: bool = False) -> Model:
    """Read a model file: ours, or a bare state dict of the published network.

    Raises `ModelError` for a missing or damaged file, for pickled code, and for weights of another network,
    naming the first keys that differ; and, where PyTorch is too old to open safely what may have been made to do harm,
    for every file that is not `trusted`: known by its hash.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"The model file {path} does not exist.")
    if not trusted:
        check_loads_safely(path.name, torch.__version__)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise ModelError(f"You have no permission to read the model file {path}.") from error
    except MemoryError as error:
        raise ModelError(f"Not enough memory to open {path.name}. Close other programs and try again.") from error
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
        config = load_json(content["config"])
        network = settings_from_dict(config["network"])
        _check_state(content["state"], network, where)
        return Model(
            name=_text(config["name"]),
            network=network,
            preparation=PreparationConfig.from_dict(config["preparation"]),
            state=content["state"],
            presets={name: tuple(tuple(s) for s in spacings) for name, spacings in config["presets"].items()},
            scale=tuple(config["scale"]),
            offset=tuple(config["offset"]),
            anchored=_flag(config["anchored"]),
            one_pass=_flag(config["one_pass"]),
            padding=config["padding"],
            round_trip_threshold_mm=config["round_trip_threshold_mm"],
            license=_text(config["licence"]),
            citation=_text(config["citation"]),
            training_data=_text(config["training_data"]),
        )
    except PreparationError as error:
        raise ModelError(f"{where}: {error}") from error
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise ModelError(f"{where} is a model file whose description is incomplete ({str(error)[:80]}).") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]} is no text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{str(value)[:40]} is neither true nor false")
    return value


def _check_state(state: Mapping, network: NetworkSettings, where: str) -> None:
    """Raise `ModelError` naming the first keys that differ from what the network needs."""
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{where} holds something other than network weights.")
    with torch.device("meta"):
        expected = build_network(network).state_dict()
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
