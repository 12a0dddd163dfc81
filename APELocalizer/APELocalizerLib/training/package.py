"""`python -m APELocalizerLib.training.package`: turn a trained network into the checkpoint that the extension ships.

Writes `default.pt` (fp16) and `default.json` (size, SHA-256, license, citation, training data: what the registry and
the panel show) into the models' folder. With `--threshold` the calibrated not-found threshold is stored; run it once
without, calibrate with `ape-localizer evaluate`, and run it again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from APELocalizerLib.core.model.known_models import PUBLISHED_CITATION
from APELocalizerLib.core.model.model import DEFAULT_THRESHOLD_MM, Model
from APELocalizerLib.core.model.model_files import read_model, save_model
from APELocalizerLib.core.model.network import NetworkConfig
from APELocalizerLib.core.model.registry import sha256_of
from APELocalizerLib.core.preparation.config import PreparationConfig

PRESETS = {
    "fast": ((4.0, 4.0, 6.0), (3.0, 3.0, 4.5)),
    "standard": ((4.0, 4.0, 6.0), (3.0, 3.0, 4.5), (2.5, 2.5, 3.75)),
}
"""Coarse shows the network the whole torso at once, fine resolves more; together they are steadier than either."""


def package(export: Path, name: str, threshold_mm: float, license: str, training_data: str) -> Model:
    """Checkpoint from a trainer's export file (network configuration, averaged weights, scale and offset in mm)."""
    content = torch.load(export, map_location="cpu", weights_only=True)
    return model_of(content, name, threshold_mm, license, training_data)


def model_of(
    content: Mapping[str, Any],
    name: str,
    threshold_mm: float = DEFAULT_THRESHOLD_MM,
    license: str = "",
    training_data: str = "",
) -> Model:
    """Checkpoint of an anchored network from what a trainer exports."""
    return Model(
        name=name,
        network=NetworkConfig.from_dict(content["network"]),
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


def main() -> int:
    """Parse the arguments and write the files; exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m APELocalizerLib.training.package", description=__doc__)
    parser.add_argument("export", type=Path, help="export.pt of a training run")
    parser.add_argument("--out", type=Path, required=True, help="folder for default.pt and default.json")
    parser.add_argument("--name", default="ape-default")
    parser.add_argument("--threshold", type=float, default=DEFAULT_THRESHOLD_MM, help="round-trip threshold, mm")
    parser.add_argument("--license", default="MIT")
    parser.add_argument("--training-data", default="see the model card (default.md)")
    arguments = parser.parse_args()
    path = arguments.out / "default.pt"
    model = package(arguments.export, arguments.name, arguments.threshold, arguments.license, arguments.training_data)
    save_model(model, path)
    card = {
        "id": read_model(path).id,
        "size_bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "licence": model.license,
        "citation": model.citation,
        "training_data": model.training_data,
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
