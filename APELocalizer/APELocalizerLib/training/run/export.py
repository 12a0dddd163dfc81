"""A trained network as a model file, which `--model` of all other subcommands reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.base.files import write_text
from APELocalizerLib.core.base.torch_version import check_loads_safely
from APELocalizerLib.core.model.known_models import PUBLISHED_CITATION
from APELocalizerLib.core.model.model import DEFAULT_THRESHOLD_MM, Model
from APELocalizerLib.core.model.model_files import read_model, save_model
from APELocalizerLib.core.model.networks import settings_from_dict, settings_to_dict
from APELocalizerLib.core.model.registry import sha256_of
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.recipes import spacing_presets
from APELocalizerLib.training.run.trainer import Trainer

PRESETS = {
    "fast": ((4.0, 4.0, 6.0), (3.0, 3.0, 4.5)),
    "standard": ((4.0, 4.0, 6.0), (3.0, 3.0, 4.5), (2.5, 2.5, 3.75)),
}
"""Coarse shows the network the whole torso at once, fine resolves more; together they are steadier than either."""


def export_model(trainer: Trainer, path: Path, scans: int) -> Model:
    """Write the averaged network, and how scans are to be prepared for it, as a model file (float16), atomically.

    scans: how many were trained on.
    """
    config = trainer.config
    trained = "1 scan" if scans == 1 else f"{scans} scans"
    state = {key: value.detach().cpu().contiguous() for key, value in trainer.average.state_dict().items()}
    scale, offset = trainer.scale_and_offset()
    content = {"network": settings_to_dict(config.network), "state": state, "scale": scale, "offset": offset}
    model = replace(
        model_of(content, name=Path(config.output).resolve().name, training_data=f"{trained} of the user"),
        **({} if config.objective.kind.is_anchored else _self_supervised(config)),
    )
    save_model(model, path)
    return model


def _self_supervised(config: TrainingConfig) -> dict[str, Any]:
    """What differs from an anchored model: trained on tiles, with hidden blocks, and prepared as its scans were."""
    return {
        "preparation": config.objective.of_pairs.inference or config.objective.of_pairs.stored.preparation,
        "presets": spacing_presets(config),
        "anchored": False,
        "one_pass": config.objective.of_pairs.one_pass,
        "padding": "mask",
        "citation": PUBLISHED_CITATION,
    }


def model_of(
    content: Mapping[str, Any],
    name: str,
    threshold_mm: float = DEFAULT_THRESHOLD_MM,
    license: str = "",
    training_data: str = "",
) -> Model:
    """Model of an anchored network from what a trainer exports: settings, averaged weights, scale, offset."""
    return Model(
        name=name,
        network=settings_from_dict(content["network"]),
        preparation=PreparationConfig.on_fixed_lattice(),
        state=content["state"],
        presets=PRESETS,
        scale=tuple(content["scale"]),
        offset=tuple(content["offset"]),
        anchored=True,
        one_pass=True,
        padding="edge",
        round_trip_threshold_mm=threshold_mm,
        license=license,
        citation=PUBLISHED_CITATION,
        training_data=training_data,
    )


def ship(export: Path, folder: Path, threshold_mm: float = DEFAULT_THRESHOLD_MM) -> Path:
    """Write the model that the extension ships, `default.pt` (fp16), and `default.json` with what the registry shows.

    export: `export.pt` of a training. threshold_mm: round trip from which an answer is "not found"; ship once without
    it, calibrate with `ape-localizer evaluate`, and ship again. Returns the model's path. Raises `TrainingError` for a
    file that is none of a training.
    """
    check_loads_safely(export.name, torch.__version__)
    try:
        content = torch.load(export, map_location="cpu", weights_only=True)
        model = model_of(content, "ape-default", threshold_mm, "MIT", "see the model card (default.md)")
    except Exception as error:  # a damaged file can make the unpickler raise anything
        raise TrainingError(
            f"“{export}” is missing, damaged or not the export.pt of a training. Give the folder of a training."
        ) from error
    path = folder / "default.pt"
    save_model(model, path)
    card = {
        "id": read_model(path).id,
        "size_bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "licence": model.license,
        "citation": model.citation,
        "training_data": model.training_data,
    }
    write_text(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return path
