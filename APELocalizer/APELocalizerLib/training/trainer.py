"""The training loop: deterministic per step, so that a killed run resumes to the same losses."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.network import APENetwork
from APELocalizerLib.training.augmentation import augment, random_visibility
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data import TrainingSet, load_training_set
from APELocalizerLib.training.files import append_row, save_atomically
from APELocalizerLib.training.pseudo import apply_teacher
from APELocalizerLib.training.retrieval import embed, fuse, retrieval_errors
from APELocalizerLib.training.synthetic import paint
from APELocalizerLib.training.virtual_patients import Crop, draw_crop

_LOG = logging.getLogger(__name__)


def anchored_loss(output: Tensor, crop: Crop, scale: Tensor, offset: Tensor, huber_mm: float) -> tuple[Tensor, float]:
    """Robust distance (units of huber_mm) between predicted and canonical coordinates, weighted per cell.

    output: (1, 3, p, l, i) in (0, 1). Per cell the weighted distance d gives sqrt(1 + (d / huber)^2) - 1: quadratic
    when near, linear when far. Also returns the weighted mean distance in mm.
    """
    found = output[0].float() * scale[:, None, None, None] + offset[:, None, None, None]
    error = found - crop.target
    axis_weight = crop.weight
    total = axis_weight.sum().clamp_min(1e-3)
    cell_weight = axis_weight.mean(0)
    share = axis_weight / cell_weight.clamp_min(1e-6)
    squared = (share * error**2).sum(0)
    loss = (cell_weight * (torch.sqrt(1 + squared / huber_mm**2) - 1)).sum() * 3 / total
    with torch.no_grad():
        distance = float((cell_weight * (error**2).sum(0).sqrt()).sum() * 3 / total)
    return loss, distance


class Trainer:
    """One run: network, averaged network, optimizer, and where it stands."""

    def __init__(self, config: TrainingConfig, data: TrainingSet) -> None:
        torch.manual_seed(config.seed)
        self.config, self.data = config, data
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.network = APENetwork(config.network)
        if config.initial_weights:
            exported = torch.load(config.initial_weights, weights_only=True, map_location="cpu")
            self.network.load_state_dict(exported["state"])
        self.average = copy.deepcopy(self.network).eval()
        self.network.to(memory_format=torch.channels_last_3d)
        self.average.to(memory_format=torch.channels_last_3d)
        # Workers share the weights and have gradients of their own: no barrier within a step, whatever else runs.
        self.replicas = [copy.deepcopy(self.network) for _ in range(min(config.threads, config.crops_per_step))]
        for replica in self.replicas:
            for shared, own in zip(self.network.parameters(), replica.parameters(), strict=True):
                own.data = shared.data
        self.pool = ThreadPoolExecutor(len(self.replicas))
        decay = [p for p in self.network.parameters() if p.ndim == 5]
        plain = [p for p in self.network.parameters() if p.ndim != 5]
        groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)
        self.scale, self.offset = torch.tensor(config.scale), torch.tensor(config.offset)
        self.step, self.minutes = 0, 0.0
        shares = np.array([scan.share for scan in data.train])
        self.shares = shares / shares.sum()
        kinds = np.array([kind.share for kind in config.kinds])
        self.kinds = kinds / kinds.sum()

    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        done = self.step / self.config.max_steps
        return max(done, self.minutes / self.config.max_minutes) if self.config.max_minutes else done

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine to one hundredth."""
        warm = min(1.0, (self.step + 1) / self.config.warm_up_steps)
        cosine = 0.5 * (1 + np.cos(np.pi * min(1.0, self.progress())))
        return float(self.config.learning_rate * warm * (0.01 + 0.99 * cosine))

    def draw(self, index: int) -> Crop:
        """Crop `index` of the current step; depends on seed, step and index alone."""
        rng = np.random.default_rng((self.config.seed, self.step, index))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        scan = self.data.train[int(rng.choice(len(self.shares), p=self.shares))]
        kind = self.config.kinds[int(rng.choice(len(self.kinds), p=self.kinds))]
        with torch.no_grad():
            crop = draw_crop(scan, kind, self.config.deformation, rng, generator)
            if crop.label_names is not None:
                crop.image = paint(crop.image, crop.label_names, rng, generator)
            crop.image = augment(crop.image, crop.outside, rng, generator)
            crop.visible = random_visibility(crop.image.shape[2:], self.config.hidden_chance, rng, generator)
        return crop

    def _run_crops(self, worker: int) -> list[tuple[float, float, float]]:
        """Forward and backward of every crop of one worker; its replica keeps the gradients. (loss, mm, seconds)"""
        torch.set_num_threads(1)
        replica, found = self.replicas[worker], []
        replica.zero_grad(set_to_none=True)
        for index in range(worker, self.config.crops_per_step, len(self.replicas)):
            before = time.perf_counter()
            crop = self.draw(index)
            drawing = time.perf_counter() - before
            output = replica(crop.image.contiguous(memory_format=torch.channels_last_3d), crop.visible)
            loss, distance = anchored_loss(output, crop, self.scale, self.offset, self.config.huber_mm)
            (loss / self.config.crops_per_step).backward()
            found.append((float(loss.detach()), distance, drawing))
        return found

    def train_step(self) -> dict[str, float]:
        """One optimizer step over several crops, shared among single-threaded workers; returns its metrics."""
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        parts = list(self.pool.map(self._run_crops, range(len(self.replicas))))
        losses, distances, drawing = zip(*(row for part in parts for row in part), strict=True)
        for parameter, *others in zip(self.network.parameters(), *(r.parameters() for r in self.replicas), strict=True):
            grads = [other.grad for other in others if other.grad is not None]
            parameter.grad = sum(grads) if grads else None
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm))
        if np.isfinite(norm):
            self.optimizer.step()
        self._update_average()
        self.step += 1
        seconds = time.perf_counter() - started
        self.minutes += seconds / 60
        return {
            "step": self.step, "minutes": self.minutes, "loss": float(np.mean(losses)),
            "distance_mm": float(np.mean(distances)),
            "gradient_norm": norm, "seconds": seconds, "drawing_seconds": float(sum(drawing)) / len(self.replicas),
        }  # fmt: skip

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for kept, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
            kept.lerp_(current, 1 - decay)

    def save(self) -> None:
        """Write everything that is needed to go on, atomically."""
        state = {
            "network": self.network.state_dict(), "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(), "step": self.step, "minutes": self.minutes,
        }  # fmt: skip
        save_atomically(state, self.folder / "state.pt")

    def resume(self) -> bool:
        """Go on from the last save, if there is one."""
        path = self.folder / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True, map_location="cpu")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.minutes = int(state["step"]), float(state["minutes"])
        return True

    def export(self, path: Path) -> None:
        """Write the averaged weights with what is needed to use them."""
        state = {key: value.contiguous().clone() for key, value in self.average.state_dict().items()}
        values = {
            "network": self.config.network.to_dict(), "state": state, "scale": list(self.config.scale),
            "offset": list(self.config.offset), "step": self.step,
        }  # fmt: skip
        save_atomically(values, path)

    def validate(self) -> dict[str, float]:
        """Retrieval between held-out patients and the annotated training scans, at three spacings and fused."""
        supports = [scan for scan in self.data.train if scan.label_names is None and len(scan.landmark_names) >= 5]
        self.average.eval()
        metrics: dict[str, float] = {}
        maps = {}
        for name, spacing in (("6", (6.0, 6.0, 9.0)), ("4", (4.0, 4.0, 6.0)), ("3", (3.0, 3.0, 4.5))):
            for group, scans in (("target", self.data.held_out), ("support", supports)):
                chosen = [s for s in scans if len(s.landmark_names)]
                maps[name, group] = [embed(self.average, s, spacing, self.scale, self.offset) for s in chosen]
        for group in ("target", "support"):
            maps["f", group] = [fuse(*found) for found in zip(*(maps[n, group] for n in "643"), strict=True)]
        for name in ("6", "4", "3", "f"):
            errors = retrieval_errors(maps[name, "target"], maps[name, "support"])
            unseen = retrieval_errors(maps[name, "target"], maps[name, "target"])
            for kind, values in {
                **{k: errors[k] for k in ("one", "several", "canonical")},
                "unseen": unseen["one"],
            }.items():
                metrics[f"{kind}_{name}_mean"] = float(values.mean())
                metrics[f"{kind}_{name}_median"] = float(np.median(values))
        return metrics


def train(
    config: TrainingConfig, data: TrainingSet | None = None, report: Callable[[dict[str, float]], None] | None = None
) -> Trainer:
    """Run, or resume, a training. Returns the trainer at its end."""
    torch.set_num_threads(config.threads)
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    if data is None:
        cache = folder / "observations.pkl"
        more = Path(config.more_landmarks) if config.more_landmarks else None
        data = load_training_set(
            Path(config.data), config.held_out, config.frame, cache, config.synthetic_share, config.excluded, more
        )
        if config.teacher:
            apply_teacher(data, Path(config.teacher), config.frame, config.synthetic_share)
    trainer = Trainer(config, data)
    config.save(folder / "config.json")
    trainer.resume()
    while trainer.step < config.max_steps and trainer.progress() < 1.0:
        metrics = trainer.train_step()
        if report is not None:
            report(metrics)
        if trainer.step % 20 == 0:
            append_row(folder / "metrics.csv", metrics)
        if trainer.step % config.checkpoint_every == 0:
            trainer.save()
            trainer.export(folder / "export.pt")
        if data.held_out and trainer.step % config.validate_every == 0:
            found = trainer.validate()
            append_row(folder / "validation.csv", {"step": trainer.step, "minutes": trainer.minutes, **found})
            _LOG.info("step %d: %s", trainer.step, {key: round(value, 1) for key, value in found.items()})
    trainer.save()
    trainer.export(folder / "export.pt")
    if data.held_out:
        append_row(folder / "validation.csv", {"step": trainer.step, "minutes": trainer.minutes, **trainer.validate()})
    return trainer
