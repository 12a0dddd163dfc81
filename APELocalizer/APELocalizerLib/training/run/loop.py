"""Running a training from its settings to its end: resume, steps, logs, saves, validation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, report, sub_progress
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.training_set import TrainingSet
from APELocalizerLib.training.run.build import set_up
from APELocalizerLib.training.run.distributed import Processes
from APELocalizerLib.training.run.export import export_model
from APELocalizerLib.training.run.files import Board, append_row, has_row, only_training, trim_rows, writing
from APELocalizerLib.training.run.machine import enough_memory, training_device
from APELocalizerLib.training.run.trainer import Trainer

_LOG = logging.getLogger(__name__)
METRICS, VALIDATION, CONFIG, EXPORT, MODEL = "metrics.csv", "validation.csv", "config.json", "export.pt", "model.pt"


@enough_memory()
def train(
    config: TrainingConfig,
    data: TrainingSet | None = None,
    on_step: Callable[[dict[str, float]], None] | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> Trainer:
    """Run, or resume, a training. Returns the trainer at its end, or where `cancelled` stopped it.

    Its folder then holds `config.json` (which reproduces the run), `state.pt` (to go on from), `model.pt` (for
    `--model` of the other subcommands), `export.pt`, `metrics.csv`, `validation.csv`, and `tensorboard/` if that is
    installed. Under `torchrun` every process takes part, and the first one writes. Raises `DeviceError` when memory
    runs out, `TrainingError` when another training runs in the folder or nothing can be written to it.
    """
    torch.set_num_threads(config.machine.threads)
    processes = Processes.join(config.machine.device)
    folder = Path(config.output)
    try:
        with only_training(folder) if processes.first else nullcontext():
            device = training_device(config.machine.device, processes)
            with writing(folder, 0):
                setup = set_up(config, device, processes, data, sub_progress(progress, 0.0, 0.05), cancelled)
            for note in setup.notes if processes.first else ():
                _LOG.warning(note)
            trainer = Trainer(setup.config, setup.objective, device, processes)
            trainer.resume()
            if processes.mean([trainer.step], device) != [trainer.step]:
                raise TrainingError("Processes resumed from different steps. Give all machines the same --out folder.")
            run = _Run(trainer, len(setup.scans), progress, cancelled)
            try:
                run.to_the_end(on_step)
            finally:
                trainer.close()
                run.board.close()
        return trainer
    finally:
        processes.leave()


class _Run:
    """The loop around a trainer, and the files it leaves."""

    def __init__(self, trainer: Trainer, scans: int, progress: Progress | None, cancelled: CancelCheck | None) -> None:
        self.trainer, self.scans, self.progress, self.cancelled = trainer, scans, progress, cancelled
        self.folder, self.config, self.steps = trainer.folder, trainer.config, trainer.steps
        self.writes = trainer.processes.first
        self.board, self.kept = Board(self.folder, self.writes, trainer.step), trainer.step
        self.seconds_per_step: float | None = None

    def to_the_end(self, on_step: Callable[[dict[str, float]], None] | None) -> None:
        """All steps that are left, and the final files."""
        trainer, config = self.trainer, self.config
        if self.writes:
            with writing(self.folder, self.kept):
                config.save(self.folder / CONFIG)
                for name in (METRICS, VALIDATION):
                    trim_rows(self.folder / name, trainer.step)
        while not trainer.finished and not trainer.stop_asked:
            trainer.stop_asked = self.cancelled is not None and self.cancelled()
            if trainer.stop_asked and trainer.processes.size == 1:
                break  # several processes agree on it in the next step
            metrics = trainer.train_step()
            if on_step is not None:
                on_step(metrics)
            self._log(metrics)
            if trainer.step % config.records.checkpoint_every == 0:
                self._save()
            if trainer.step % config.records.validate_every == 0 and not trainer.stop_asked:
                self._validate()
        self._save()
        if not trainer.stop_asked:
            self._validate()

    def _log(self, metrics: dict[str, float]) -> None:
        if not self.writes:
            return
        trainer = self.trainer
        if trainer.step % self.config.records.log_every == 0 or trainer.finished:
            with writing(self.folder, self.kept):
                append_row(self.folder / METRICS, metrics)
            self.board.add("training", metrics, trainer.step)
        known = self.seconds_per_step
        self.seconds_per_step = metrics["seconds"] if known is None else 0.9 * known + 0.1 * metrics["seconds"]
        left = (self.steps.max_steps - trainer.step) * self.seconds_per_step
        if self.steps.max_minutes:
            left = min(left, (self.steps.max_minutes - trainer.minutes) * 60)
        text = f"step {trainer.step}/{self.steps.max_steps}, loss {metrics['loss']:.4g}, {duration(left)} left"
        report(self.progress, 0.05 + 0.95 * trainer.progress(), text)

    def _save(self) -> None:
        if not self.writes:
            return
        with writing(self.folder, self.kept):
            self.trainer.save()
            self.kept = self.trainer.step
            self.trainer.export(self.folder / EXPORT)
            export_model(self.trainer, self.folder / MODEL, self.scans)

    def _validate(self) -> None:
        """Numbers of the averaged network, unless its step has them, by the first process while the others wait."""
        trainer = self.trainer
        new = self.writes and not has_row(self.folder / VALIDATION, trainer.step)
        if new and (measured := trainer.validate()):
            row = {"step": trainer.step, "minutes": trainer.minutes, **measured}
            append_row(self.folder / VALIDATION, row)
            self.board.add("validation", measured, trainer.step)
            _LOG.info("step %d: %s", trainer.step, {key: round(value, 1) for key, value in measured.items()})
        trainer.processes.wait()


def duration(seconds: float) -> str:
    """Hours, minutes or seconds, in words short enough for a progress bar."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(0.0, seconds):.0f} s"
