"""A dry run: what a training would do, in words, with nothing written."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

import torch

from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled
from APELocalizerLib.core.model.networks import build_network
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.own_scans import Annotations, landmark_table, read_annotations
from APELocalizerLib.training.recipes import RECIPES
from APELocalizerLib.training.run.build import Setup, chosen_scans, set_up
from APELocalizerLib.training.run.costs import activation_bytes, model_bytes, parameter_count
from APELocalizerLib.training.run.distributed import Processes
from APELocalizerLib.training.run.machine import enough_memory, precision_for, training_device
from APELocalizerLib.training.run.trainer import initial_state, saved_state
from APELocalizerLib.training.settings import Objective

_TRIED = 2
"""Scans that are read to draw a first step from."""

_ITEMS = {
    Objective.ANCHORED: "crops", Objective.SELF_SUPERVISED: "patients", Objective.BOTH: "crops and patients",
}  # fmt: skip
"""What a step consists of."""


@enough_memory()
def dry_run(config: TrainingConfig, progress: Progress | None = None, cancelled: CancelCheck | None = None) -> str:
    """What a run of these settings would do: scans, steps, memory, and the shapes of a first step.

    A few scans are read and prepared in a temporary folder, and a step is drawn from them. Raises `TrainingError` for
    what would keep the run from beginning, and `Cancelled` if `cancelled` returned True.
    """
    scans = chosen_scans(config)
    annotations = None
    if config.objective.kind.is_anchored and not config.data.is_laid_out:
        annotations = read_annotations(config.data, scans, config.objective.takes_unlabelled)
    done = _steps_done(config)
    device = training_device(config.machine.device, Processes())
    with tempfile.TemporaryDirectory() as folder:
        setup = set_up(_reduced(config, scans, annotations, folder), device, Processes(), None, progress, cancelled)
        items = []
        for index in range(setup.objective.items):
            check_cancelled(cancelled)
            items.append(setup.objective.draw(0, index))
        lines = [f"Recipe {config.recipe}: {_first_line(config)}", *_scan_lines(config, scans, annotations, setup)]
        lines.append(_step_line(config, setup.objective.items, done))
        lines += [f"A first step: {setup.objective.describe(item)}." for item in items[:3]]
        lines += _memory_lines(config, device, [setup.objective.shape_of(item) for item in items])
        lines.append(_scan_memory_line(config, scans, annotations, setup))
    lines.append(f"Results: {config.output} (nothing was written now).")
    return "\n".join(lines)


def _reduced(config: TrainingConfig, scans: dict[str, Path], known: Annotations | None, folder: str) -> TrainingConfig:
    """The same run on a few scans that suffice for it, in a temporary folder."""
    changed = config.changed(output=folder, cache=None, teacher=None, initial_weights=None)
    if config.objective.kind.is_anchored and config.data.is_laid_out:
        return changed  # laid-out data are read as they are
    names = list(known.known) if known else sorted(set(scans) - set(config.data.held_out))
    return changed.changed(scans=tuple(str(scans[name]) for name in names[:_TRIED]), held_out=(), excluded=())


def _steps_done(config: TrainingConfig) -> int:
    """Steps that a training in the same folder has done; without one, the weights to begin with are looked at."""
    state = saved_state(Path(config.output))
    if state is None and config.optimization.initial_weights:
        with torch.device("meta"):
            network = build_network(config.network)
        initial_state(Path(config.optimization.initial_weights), network)
    return state["step"] if state else 0


def _first_line(config: TrainingConfig) -> str:
    recipe = RECIPES.get(config.recipe)
    return (recipe.__doc__ or "").splitlines()[0] if recipe else "settings of your own."


def _scan_lines(config: TrainingConfig, scans: Collection[str], known: Annotations | None, setup: Setup) -> list[str]:
    names = sorted(scans)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    lines = [f"Scans: {len(names)} ({shown})."]
    if config.data.held_out:
        lines.append(f"Held out for validation: {', '.join(config.data.held_out)}.")
    if known is not None:
        tables = " and ".join(table for table in (config.data.landmarks, config.data.boxes) if table)
        lines += [
            f"Annotated well enough to learn from: {len(known.known)} of them ({tables}).",
            *known.notes,
        ]
    elif config.data.landmarks:
        annotated = [name for name in landmark_table(config.data.landmarks) if name in scans]
        lines.append(f"Landmarks: of {len(annotated)} of them ({config.data.landmarks}).")
    lines += [f"{name} cannot be used: {reason}" for name, reason in setup.left_out.items()]
    return lines


def _step_line(config: TrainingConfig, items: int, done: int) -> str:
    begun = f", of which {done} are done: it would go on from there" if done else ""
    steps, kind = config.optimization, _ITEMS[config.objective.kind]
    end = f" or {steps.max_minutes:g} minutes" if steps.max_minutes else ""
    return f"Steps: {steps.max_steps}{end}{begun}; {items} {kind} per step and process, {steps.schedule} schedule."


def _memory_lines(config: TrainingConfig, device: torch.device, shapes: list[tuple[int, ...]]) -> list[str]:
    workers = min(config.machine.threads, len(shapes)) if device.type == "cpu" else 1
    precision = precision_for(config.machine.precision, device)
    held = model_bytes(config.network, workers)
    largest = sorted((activation_bytes(config.network, shape) for shape in shapes), reverse=True)[:workers]
    activations = sum(largest) * (0.6 if precision == "bf16" else 1.0)
    return [
        f"Network: {parameter_count(config.network) / 1e6:.2f} million parameters; {device}, {precision}, {workers} at "
        "a time.",
        f"Memory for this step: about {_size(held)} for the weights and the optimizer, {_size(activations)} for what "
        "the network keeps until its gradients are known.",
    ]


def _scan_memory_line(config: TrainingConfig, scans: Collection[str], known: Annotations | None, setup: Setup) -> str:
    """Estimated from the scans that were read."""
    if setup.data is None:
        return f"Memory for scans: about {_size(setup.largest_scan)} for each in use; they stay on disk, in the cache."
    held = setup.data.train + setup.data.held_out + setup.data.unlabelled
    count = len(held) if known is None else sum(known.needs(name, config.data) for name in scans)
    size = count * sum(scan.nbytes for scan in held) / len(held)
    return f"Memory for scans: about {_size(size)}; {count} of them are kept in it."


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
