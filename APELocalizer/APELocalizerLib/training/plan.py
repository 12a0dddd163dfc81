"""A dry run: what a training would do, in words, with nothing written."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from APELocalizerLib.core.progress import Progress
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.costs import activation_bytes, model_bytes, parameter_count
from APELocalizerLib.training.distributed import Processes
from APELocalizerLib.training.machine import enough_memory, precision_for, training_device
from APELocalizerLib.training.presets import PRESETS
from APELocalizerLib.training.scan_files import find_scans
from APELocalizerLib.training.setup import Setup, scan_places, set_up
from APELocalizerLib.training.user_data import landmark_table

#: Scans that are read to draw a first step from.
_TRIED = 2


@enough_memory()
def dry_run(config: TrainingConfig, progress: Progress | None = None) -> str:
    """What a run of these settings would do: scans, steps, memory, and the shapes of a first step.

    A few scans are read and prepared in a temporary folder, and a step is drawn from them.
    """
    scans = {name: path for name, path in find_scans(scan_places(config)).items() if name not in config.excluded}
    device = training_device(config.device, Processes())
    with tempfile.TemporaryDirectory() as folder:
        setup = set_up(_reduced(config, scans, folder), device, Processes(), progress=progress)
        items = [setup.objective.draw(0, index) for index in range(setup.objective.items)]
    lines = [f"Preset {config.preset}: {_first_line(config)}", *_scan_lines(config, scans, setup)]
    lines += _step_lines(config, setup.objective.items)
    lines += [f"A first step: {setup.objective.describe(item)}." for item in items[:3]]
    lines += _memory_lines(config, device, [setup.objective.shape_of(item) for item in items])
    lines.append(f"Results: {config.output} (nothing was written now).")
    return "\n".join(lines)


def _reduced(config: TrainingConfig, scans: dict[str, Path], folder: str) -> TrainingConfig:
    """The same run on a few scans, in a temporary folder."""
    changed = replace(config, output=folder, cache=None, teacher=None)
    if config.anchored and not config.scans:
        return changed  # laid-out data are read as they are
    annotated = [name for name in landmark_table(config.landmarks) if name in scans and name not in config.held_out]
    names = (annotated if config.anchored and annotated else sorted(set(scans) - set(config.held_out)))[:_TRIED]
    return replace(changed, scans=tuple(str(scans[name]) for name in names), held_out=(), excluded=())


def _first_line(config: TrainingConfig) -> str:
    recipe = PRESETS.get(config.preset)
    return (recipe.__doc__ or "").splitlines()[0] if recipe else "settings of your own."


def _scan_lines(config: TrainingConfig, scans: dict[str, Path], setup: Setup) -> list[str]:
    names = sorted(scans)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    lines = [f"Scans: {len(names)} ({shown})."]
    if config.held_out:
        lines.append(f"Held out for validation: {', '.join(config.held_out)}.")
    if config.landmarks:
        known = [name for name in landmark_table(config.landmarks) if name in scans]
        lines.append(f"Landmarks: of {len(known)} of them ({config.landmarks}).")
    lines += [f"{name} cannot be used: {reason}" for name, reason in setup.left_out.items()]
    return lines


def _step_lines(config: TrainingConfig, items: int) -> list[str]:
    state = Path(config.output) / "state.pt"
    done = int(torch.load(state, weights_only=True, map_location="cpu")["step"]) if state.exists() else 0
    begun = f", of which {done} are done: it would go on from there" if done else ""
    kind = "crops" if config.pairs is None else "patients" if not config.anchored else "crops and patients"
    end = f" or {config.max_minutes:g} minutes" if config.max_minutes else ""
    return [f"Steps: {config.max_steps}{end}{begun}; {items} {kind} per step and process, {config.schedule} schedule."]


def _memory_lines(config: TrainingConfig, device: torch.device, shapes: list[tuple[int, ...]]) -> list[str]:
    workers = min(config.threads, len(shapes)) if device.type == "cpu" else 1
    precision = precision_for(config.precision, device)
    held = model_bytes(config.network, workers)
    largest = sorted((activation_bytes(config.network, shape) for shape in shapes), reverse=True)[:workers]
    activations = sum(largest) * (0.6 if precision == "bf16" else 1.0)
    return [
        f"Network: {parameter_count(config.network) / 1e6:.2f} million parameters; {device}, {precision}, {workers} at "
        "a time.",
        f"Memory for this step: about {_size(held)} for the weights and the optimizer, {_size(activations)} for what "
        "the network keeps until its gradients are known, and the scans.",
    ]


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
