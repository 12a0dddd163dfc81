"""Options that several subcommands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from APELocalizerLib.core.checkpoints import Checkpoint
    from APELocalizerLib.core.inference import InferenceSettings

SCAN_HELP = "CT scan: NIfTI, NRRD or MetaImage file, or folder of one DICOM series"


def add_scan(parser: argparse.ArgumentParser, name: str = "scan", **keywords) -> None:
    """Add the positional scan argument."""
    parser.add_argument(name, type=Path, metavar=name.upper(), help=SCAN_HELP, **keywords)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how a scan is embedded."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", default="default", metavar="ID|FILE", help="one of `ape-localizer models`, or a file")
    group.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    group.add_argument("--spacing", default="standard", help="standard (default) or fast; some models also have fine")
    group.add_argument("--one-pass", action="store_true", help="the whole scan at once: faster, needs memory")


def load_model(arguments: argparse.Namespace) -> "Checkpoint":
    """Load the model that the options name."""
    from APELocalizerLib.core.registry import load_checkpoint

    return load_checkpoint(arguments.model)


def inference_settings(arguments: argparse.Namespace) -> "InferenceSettings":
    """Return the inference settings that the options name."""
    from APELocalizerLib.core.inference import InferenceSettings

    return InferenceSettings(device=arguments.device, one_pass=True if arguments.one_pass else None)
