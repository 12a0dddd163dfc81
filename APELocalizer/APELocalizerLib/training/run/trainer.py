"""The training loop: deterministic per step, so that a killed run resumes to the same losses."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.base.torch_version import check_loads_safely
from APELocalizerLib.core.model.embedding_network import EmbeddingNetwork
from APELocalizerLib.core.model.networks import build_network, settings_to_dict
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.objectives.heads import Head, TrainedNetwork
from APELocalizerLib.training.objectives.objective import TrainingObjective
from APELocalizerLib.training.run.distributed import Processes
from APELocalizerLib.training.run.files import save_tensors
from APELocalizerLib.training.run.machine import precision_for
from APELocalizerLib.training.run.schedule import learning_rate
from APELocalizerLib.training.run.workers import ItemReport, SerialWorkers, ThreadWorkers, Workers

_MOST_SKIPPED = 50
"""Steps in a row that may have gradients that are not numbers; such steps change nothing."""


class Trainer:
    """One run: network, averaged network, optimizer, and where it stands."""

    def __init__(
        self,
        config: TrainingConfig,
        objective: TrainingObjective,
        device: torch.device | None = None,
        processes: Processes | None = None,
        timed: bool = False,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.objective, self.steps = config, objective, config.optimization
        self.device, self.processes = device or torch.device("cpu"), processes or Processes()
        self.folder = Path(config.output)
        network = build_network(config.network)
        if self.steps.initial_weights and not (self.folder / "state.pt").exists():
            network.load_state_dict(initial_state(Path(self.steps.initial_weights), network))
        head = copy.deepcopy(objective.head)
        self.model = TrainedNetwork(network, head, precision_for(config.machine.precision, self.device)).to(self.device)
        self.average_model = copy.deepcopy(self.model).eval()
        for part in (self.network, self.average):
            part.to(memory_format=torch.channels_last_3d)
        self.workers = self._workers(timed)
        others = [] if self.model.head is None else list(self.model.head.parameters())
        decay = [p for p in self.network.parameters() if p.ndim == 5]
        plain = [p for p in self.network.parameters() if p.ndim != 5] + others
        groups = [{"params": decay, "weight_decay": self.steps.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=self.steps.learning_rate, betas=self.steps.betas, eps=self.steps.adam_eps
        )
        self.step, self.minutes, self.skipped = 0, 0.0, 0
        self.stop_asked = False

    def _workers(self, timed: bool) -> Workers:
        if self.device.type == "cpu" and self.processes.size == 1:
            return ThreadWorkers(self.model, self.objective, self.config.machine.threads)
        return SerialWorkers(self.model, self.objective, self.processes, self.device, timed)

    @property
    def network(self) -> EmbeddingNetwork:
        """The network as it is trained."""
        return self.model.network

    @property
    def average(self) -> EmbeddingNetwork:
        """The moving average of the network's weights, which is what is exported."""
        return self.average_model.network

    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        done = self.step / self.steps.max_steps
        return max(done, self.minutes / self.steps.max_minutes) if self.steps.max_minutes else done

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.step >= self.steps.max_steps or self.progress() >= 1.0

    def train_step(self) -> dict[str, float]:
        """One optimizer step over all items of all processes; returns its metrics.

        A step whose gradients are not finite changes nothing. Raises `TrainingError` after many of these in a row.
        """
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.steps, self.step, self.progress())
        self.reports = self.workers.run(self.step)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.steps.clip_norm))
        if np.isfinite(norm):
            self.optimizer.step()
            self._update_average()
        self._count_skipped(bool(np.isfinite(norm)))
        self.step += 1
        metrics = self._summary(self.reports)
        seconds = time.perf_counter() - started
        drawing = sum(r.seconds["data"] + r.seconds["augmentation"] for r in self.reports) / self.workers.count
        names = list(metrics)
        shared = [*metrics.values(), seconds, drawing, float(self.stop_asked)]
        *values, seconds, drawing, stop = self.processes.mean(shared, self.device)
        self.stop_asked = stop > 0
        self.minutes += seconds / 60
        return {
            "step": self.step, "minutes": self.minutes, **dict(zip(names, values, strict=True)),
            "gradient_norm": norm, "seconds": seconds, "drawing_seconds": drawing,
        }  # fmt: skip

    def _count_skipped(self, finite: bool) -> None:
        """Raise `TrainingError` when too many steps in a row had gradients that are not numbers."""
        self.skipped = 0 if finite else self.skipped + 1
        if self.skipped >= _MOST_SKIPPED:
            raise TrainingError(
                f"Training stopped at step {self.step}, because for {self.skipped} steps in a row the gradients were "
                "not finite numbers; begin anew with a lower --learning-rate, or, if they were bf16, go on with "
                "--precision fp32."
            )

    def _summary(self, reports: list[ItemReport]) -> dict[str, float]:
        """The step's loss, and the mean of every other metric over the items that have it."""
        names = list(dict.fromkeys(name for report in reports for name in report.metrics))
        means = {name: float(np.mean([r.metrics[name] for r in reports if name in r.metrics])) for name in names}
        means["loss"] = float(sum(r.metrics["loss"] / r.divisor for r in reports))
        return means

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.steps.ema_decay, (1 + self.step) / (10 + self.step))
        for kept, current in zip(self.average_model.parameters(), self.model.parameters(), strict=True):
            kept.lerp_(current, 1 - decay)
        head, average_head = self.model.head, self.average_model.head
        if head is None or average_head is None:
            return
        seen = [(r.unit_mm, *r.seen) for r in self.reports if r.unit_mm is not None]
        if seen:
            unit_mm, *values = self.processes.mean(np.mean(seen, axis=0).tolist(), self.device)
            head.update(unit_mm, values)
        for average_buffer, buffer in zip(average_head.buffers(), head.buffers(), strict=True):
            average_buffer.copy_(buffer)

    def save(self) -> None:
        """Write everything that is needed to go on, atomically."""
        state = {
            "network": self.network.state_dict(), "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(), "step": self.step, "minutes": self.minutes,
        }  # fmt: skip
        state |= {name: head.state_dict() for name, head in self._heads().items()}
        save_tensors(state, self.folder / "state.pt")

    def _heads(self) -> dict[str, Head]:
        """The heads by their names in a saved state; none in anchored training."""
        heads = {"head": self.model.head, "average_head": self.average_model.head}
        return {name: head for name, head in heads.items() if head is not None}

    def resume(self) -> bool:
        """Go on from the last save, if there is one. Raises TrainingError for a damaged one, or another network's."""
        state = saved_state(self.folder)
        if state is None:
            return False
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            for name, head in self._heads().items():
                head.load_state_dict(state[name])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(
                f"“{self.folder}” holds a training of another network or recipe. Choose another folder."
            ) from error
        self.step, self.minutes = state["step"], state["minutes"]
        return True

    def export(self, path: Path) -> None:
        """Write the averaged weights with what is needed to use them."""
        state = {key: value.cpu().contiguous().clone() for key, value in self.average.state_dict().items()}
        scale, offset = self.scale_and_offset()
        values = {
            "network": settings_to_dict(self.config.network), "state": state, "scale": scale, "offset": offset,
            "step": self.step,
        }  # fmt: skip
        save_tensors(values, path)

    def scale_and_offset(self) -> tuple[list[float], list[float]]:
        """Scale and offset (3) that turn the averaged network's output into millimeters."""
        if self.average_model.head is None:
            fixed_scale, fixed_offset = self.config.objective.range_mm
            return list(fixed_scale), list(fixed_offset)
        scale, offset = self.average_model.head.millimeters()
        return scale.tolist(), offset.tolist()

    def validate(self) -> dict[str, float]:
        """Numbers of the averaged network."""
        self.average_model.eval()
        return self.objective.validate(self.average_model)

    def close(self) -> None:
        """End threads."""
        self.workers.close()


def saved_state(folder: Path) -> dict[str, Any] | None:
    """What a training in a folder would go on from, or None. Raises TrainingError if it is damaged."""
    path = folder / "state.pt"
    if not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        return state | {"step": int(state["step"]), "minutes": float(state["minutes"])}
    except Exception as error:  # a damaged file can make the unpickler raise anything
        raise TrainingError(
            f"“{path}”, from which this training would go on, is damaged. Restore it, or choose another folder."
        ) from error


def initial_state(path: Path, network: EmbeddingNetwork) -> dict[str, torch.Tensor]:
    """Weights of an earlier run's export, or of a model file. Raises TrainingError if they are not the network's."""
    if not path.is_file():
        raise TrainingError(f"The weights to start from, “{path}”, do not exist.")
    check_loads_safely(path.name, torch.__version__)
    try:
        exported = torch.load(path, weights_only=True, map_location="cpu")
        state = {key: value.float() for key, value in exported.get("state", exported).items()}
    except Exception as error:  # a damaged file can make the unpickler raise anything
        raise TrainingError(
            f"The weights to start from, “{path.name}”, are damaged or no model file; give the model.pt of a training."
        ) from error
    expected = {key: value.shape for key, value in network.state_dict().items()}
    if {key: value.shape for key, value in state.items()} != expected:
        raise TrainingError(f"“{path.name}” holds the weights of another network than this training's.")
    return state
