"""A trained network as a model file, which `--model` of all other subcommands reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from APELocalizerLib.core.model.known_models import PUBLISHED_CITATION
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.model_files import save_model
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.package import model_of
from APELocalizerLib.training.recipes import spacing_presets
from APELocalizerLib.training.run.trainer import Trainer


def export_model(trainer: Trainer, path: Path, scans: int) -> Model:
    """Write the averaged network, and how scans are to be prepared for it, as a model file (float16), atomically.

    scans: how many were trained on.
    """
    config = trainer.config
    trained = "1 scan" if scans == 1 else f"{scans} scans"
    state = {key: value.detach().cpu().contiguous() for key, value in trainer.average.state_dict().items()}
    scale, offset = trainer.scale_and_offset()
    content = {"network": config.network.to_dict(), "state": state, "scale": scale, "offset": offset}
    model = replace(
        model_of(content, name=Path(config.output).resolve().name, training_data=f"{trained} of the user"),
        **({} if config.objective.kind.is_anchored else _self_supervised(config)),
    )
    save_model(model, path)
    return model


def _self_supervised(config: TrainingConfig) -> dict:
    """What differs from an anchored model: trained on tiles, with hidden blocks, and prepared as its scans were."""
    return {
        "preparation": config.objective.pairs.inference or config.objective.pairs.stored.preparation,
        "presets": spacing_presets(config),
        "anchored": False,
        "one_pass": config.objective.pairs.one_pass,
        "padding": "mask",
        "citation": PUBLISHED_CITATION,
    }
