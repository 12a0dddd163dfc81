"""`ape-localizer train`: fit a network to scans, or go on with a training."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from APELocalizerLib.cli.console import Console
from APELocalizerLib.core.base.errors import Cancelled, TrainingError

if TYPE_CHECKING:
    from APELocalizerLib.training.config import TrainingConfig

PRESET_NAMES = ("anchored", "virtual", "mixed", "ape-naive", "ape-aug", "ape-equiv", "released")
MAY_CHANGE = {
    "output", "max_steps", "max_minutes", "validate_every", "checkpoint_every", "log_every", "threads", "device",
    "precision", "cache", "warm_up_steps",
}  # fmt: skip
"""Settings that may differ from those that a training was begun with."""

STOPPED_CODE = 130
"""Exit code of a training that the user stopped with Ctrl+C."""

DESCRIPTION = (
    "Fit a network to your own scans. A training that was stopped or killed goes on where it was when the same "
    "command is given again; --out alone is enough. The result is OUT/model.pt, for --model of the other commands."
)


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser("train", help="fit a network to your own scans", description=DESCRIPTION)
    _add_data_options(parser)
    _add_network_options(parser)
    parser.set_defaults(run=run, parser=parser)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, metavar="FOLDER", help="folder of the training and its results (default: that of --config)")
    add("--scans", nargs="+", metavar="PATH", help="CT scans: files, DICOM folders, or a folder that holds them")
    add("--landmarks", metavar="CSV", help="case,name,r_mm,a_mm,s_mm[,uncertainty_mm]; case is a scan's name")
    add("--boxes", metavar="CSV", help="case,name,rmin,rmax,amin,amax,smin,smax[,uncertainty_mm,cut_sides]")
    add("--held-out", nargs="+", metavar="CASE", help="scans that only validation sees")
    add(
        "--preset", choices=PRESET_NAMES, help="recipe (default: anchored with --landmarks or --boxes, virtual without)"
    )
    add("--config", type=Path, metavar="FILE", help="settings of an earlier training; options below change them")
    add(
        "--steps", type=int, metavar="N", help="length of the training; a shorter one than the recipe's warms up faster"
    )
    add("--minutes", type=float, metavar="N", help="stop after this much training time, if that is sooner")
    add("--batch", type=int, metavar="N", help="crops (anchored) or patients (otherwise) per step and process")
    add("--accumulate", type=int, metavar="N", help="take N times as many per step, for the memory of one")


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--network", choices=("small", "published"), help="1.6 or 31 million parameters")
    add("--virtual-patients", action=argparse.BooleanOptionalAction, help="deform every scan anew (self-supervised)")
    add("--learning-rate", type=float, metavar="RATE")
    add("--schedule", choices=("cosine", "constant", "one_cycle"), help="of the learning rate")
    add("--initial-weights", metavar="FILE", help="begin with the weights of this model instead of random ones")
    add("--device", help="auto, cpu, cuda, cuda:1; under torchrun every process takes a GPU of its own")
    add("--precision", choices=("auto", "fp32", "bf16"))
    add("--threads", type=int, metavar="N", help="CPU threads (default: all)")
    add("--seed", type=int, metavar="N")
    add("--validate-every", type=int, metavar="N", help="steps between validations")
    add("--cache", metavar="FOLDER", help="where prepared scans are kept (default: OUT/cache)")
    add("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add("--benchmark", type=int, metavar="N", help="time N steps instead of training")
    add("--ship", type=Path, metavar="FOLDER", help="write the training in --out as the extension's default model")
    add("--threshold", type=float, metavar="MM", help="round trip from which the shipped model says “not found”")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Train, or tell about it: print the model's file, a plan, or timings. Exit code 130 after Ctrl+C."""
    try:
        told = _train(arguments, console)
    except Cancelled as stopped:
        console.error(str(stopped))
        return STOPPED_CODE
    if told is not None:
        console.result(told)
    return 0


def _train(arguments: argparse.Namespace, console: Console) -> str | None:
    """Do what is asked for; returns what to print, None in all processes of a training but the first."""
    if importlib.util.find_spec("scipy") is None:
        raise TrainingError("Training needs the package scipy. Install it with: pip install scipy")
    if arguments.ship is not None:
        return _shipped(arguments)
    config = settings(arguments)
    if arguments.dry_run:
        from APELocalizerLib.training.run.plan import dry_run

        refuse_other_settings(config)
        return dry_run(config, console.progress, console.cancelled)
    if arguments.benchmark is not None:
        from APELocalizerLib.training.run.benchmark import benchmark, in_words

        if arguments.benchmark < 1:
            raise TrainingError("--benchmark needs at least one step.")
        speed = benchmark(config, arguments.benchmark, console.progress, console.cancelled)
        return in_words(speed, config)
    from APELocalizerLib.training.run.loop import MODEL, train

    refuse_other_settings(config)
    trainer = train(config, progress=console.progress, cancelled=console.cancelled)
    if not trainer.processes.first:
        return None
    if not trainer.finished:
        steps = config.optimization.max_steps
        raise Cancelled(f"Stopped and saved at step {trainer.step} of {steps}; the same command goes on from there.")
    return str(Path(config.output) / MODEL)


def _shipped(arguments: argparse.Namespace) -> str:
    """Write the default model from the training in --out; returns its file."""
    from APELocalizerLib.core.model.model import DEFAULT_THRESHOLD_MM
    from APELocalizerLib.training.run.export import ship
    from APELocalizerLib.training.run.loop import EXPORT

    if arguments.out is None:
        raise TrainingError("Name the folder of the training whose model is to be shipped with --out.")
    threshold = DEFAULT_THRESHOLD_MM if arguments.threshold is None else arguments.threshold
    return str(ship(arguments.out / EXPORT, arguments.ship, threshold))


def settings(arguments: argparse.Namespace) -> TrainingConfig:
    """The settings of a run: of --config, of the training in --out, or of a preset, changed by the options.

    Raises `TrainingError` for settings that are wrong or do not fit together.
    """
    from APELocalizerLib.training.recipes import RECIPES

    if arguments.config is not None:
        config = read_settings(arguments.config)
    elif arguments.out is None:
        raise TrainingError("Name a folder for the training with --out, or settings with --config.")
    elif (arguments.out / "config.json").exists() and arguments.preset is None and arguments.scans is None:
        config = read_settings(arguments.out / "config.json")
    else:
        if arguments.scans is None:
            raise TrainingError("Give the scans to train on with --scans, or settings with --config.")
        annotated = arguments.landmarks or arguments.boxes
        config = RECIPES[arguments.preset or ("anchored" if annotated else "virtual")](str(arguments.out))
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun, which share the cores
        config = config.changed(threads=max(1, (os.cpu_count() or 1) // processes))
    try:
        return _changed(config.changed(output=str(arguments.out or config.output)), arguments)
    except (ValueError, TypeError) as error:
        raise TrainingError(f"These settings cannot be used: {error}") from error


def _changed(config: TrainingConfig, arguments: argparse.Namespace) -> TrainingConfig:
    """Settings with the given options in their place."""
    from APELocalizerLib.core.model.network_config import NetworkConfig

    options: dict[str, Any] = {
        "scans": arguments.scans and tuple(str(Path(place).resolve()) for place in arguments.scans),
        "landmarks": _absolute(arguments.landmarks), "boxes": _absolute(arguments.boxes),
        "held_out": arguments.held_out and tuple(arguments.held_out), "max_steps": arguments.steps,
        "max_minutes": arguments.minutes, "accumulate": arguments.accumulate, "schedule": arguments.schedule,
        "learning_rate": arguments.learning_rate, "initial_weights": _absolute(arguments.initial_weights),
        "device": arguments.device, "precision": arguments.precision, "threads": arguments.threads,
        "seed": arguments.seed, "validate_every": arguments.validate_every, "cache": _absolute(arguments.cache),
    }  # fmt: skip
    steps = config.optimization
    if arguments.steps is not None and arguments.steps < steps.max_steps:
        options["warm_up_steps"] = math.ceil(steps.warm_up_steps * arguments.steps / steps.max_steps)
    if arguments.network:
        options["network"] = getattr(NetworkConfig, arguments.network)()
    pairs = config.objective.pairs
    if arguments.batch is not None:
        if arguments.batch < 1:
            raise TrainingError("--batch must be at least 1.")
        if config.objective.kind.is_anchored:
            options["crops_per_step"] = arguments.batch
        else:
            pairs = replace(config.objective.of_pairs, patients=arguments.batch)
    if arguments.virtual_patients is not None:
        if pairs is None:
            raise TrainingError("Anchored training always uses virtual patients; leave --virtual-patients out.")
        pairs = replace(pairs, virtual=arguments.virtual_patients)
    return config.changed(pairs=pairs, **{name: value for name, value in options.items() if value is not None})


def read_settings(path: Path) -> TrainingConfig:
    """Settings from a file. Raises `TrainingError` for a file that is missing, damaged or too new."""
    from APELocalizerLib.training.config import TrainingConfig

    if not path.is_file():
        raise TrainingError(f"There is no file “{path}” with settings.")
    try:
        return TrainingConfig.load(path)
    except json.JSONDecodeError as error:
        raise TrainingError(f"“{path}” is not a settings file: {error}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise TrainingError(f"“{path}” holds settings that cannot be used: {error}") from error


def refuse_other_settings(config: TrainingConfig) -> None:
    """Raise `TrainingError` if the output folder holds a training begun with other settings."""
    folder = Path(config.output)
    if not ((folder / "state.pt").exists() and (folder / "config.json").exists()):
        return
    old, new = read_settings(folder / "config.json").to_dict(), config.to_dict()
    decided = {"scale", "offset"} if config.objective.scale is None else set()  # found from the scans when it began
    differing = sorted(name for name in old if old[name] != new[name] and name not in MAY_CHANGE | decided)
    if differing:
        raise TrainingError(
            f"“{folder}” holds a training with other settings ({', '.join(differing)}). Choose another --out, or give "
            "only --out to go on with it."
        )


def _absolute(path: str | None) -> str | None:
    return path and str(Path(path).resolve())
