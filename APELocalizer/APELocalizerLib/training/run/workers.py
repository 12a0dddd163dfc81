"""How the items of a step are run: gradients of the mean loss end up in the model's parameters.

On one CPU, threads with replicas of the model: every thread draws, runs forward and backward on its own, with no
barrier within a step. On a GPU, and in each of several processes, one item after the other, while a thread draws the
next one; the memory needed is that of one item, however many are accumulated.
"""

from __future__ import annotations

import copy
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from APELocalizerLib.training.objectives.heads import Head, TrainedNetwork
from APELocalizerLib.training.objectives.objective import TrainingObjective
from APELocalizerLib.training.run.distributed import Processes


@dataclass(eq=False)
class ItemReport:
    """What one item gave: its metrics, what its head saw, and seconds for "data", "augmentation" and "network".

    shape: of its images.
    """

    metrics: dict[str, float]
    divisor: float
    unit_mm: float | None
    seen: list[float]
    shape: tuple[int, ...]
    seconds: dict[str, float] = field(default_factory=dict)


class Workers(Protocol):
    """Runs all items of a step."""

    count: int

    def run(self, step: int) -> list[ItemReport]:
        """Reports of the items, in order; `count` items are worked on at a time."""
        ...

    def close(self) -> None:
        """End its threads."""
        ...


def run_item(
    model: TrainedNetwork | nn.Module,
    head: Head | None,
    objective: TrainingObjective,
    item: Any,
    index: int,
    always_visible: bool = False,
) -> ItemReport:
    """Forward and backward of one item, whose gradients are added to those of the model."""
    begun = time.perf_counter()
    outcome = objective.measure(model, head, item, always_visible)
    divisor = objective.divisor(index)
    (outcome.loss / divisor).backward()
    seconds = dict(item.seconds) | {"network": time.perf_counter() - begun}
    return ItemReport(outcome.metrics, divisor, outcome.unit_mm, outcome.seen, objective.shape_of(item), seconds)


def forget_unused_token(model: TrainedNetwork) -> None:
    """Drop the gradient of the token for hidden cells in a step that hid nothing.

    It is zero then if visibility was given, as it must be with several processes, and the optimizer would go on by
    its momentum; without it, as with None for visibility, the token is left alone.
    """
    token = model.network.hidden_token
    if token is not None and token.grad is not None and not bool(token.grad.any()):
        token.grad = None


class ThreadWorkers:
    """Threads of one process, each with a replica: shared weights, gradients of its own."""

    def __init__(self, model: TrainedNetwork, objective: TrainingObjective, threads: int) -> None:
        self.model, self.objective = model, objective
        self.count = min(threads, objective.items)
        self.threads_each = max(1, threads // self.count)
        self.replicas = [copy.deepcopy(model) for _ in range(self.count)]
        for replica in self.replicas:
            for shared, copied in zip(model.parameters(), replica.parameters(), strict=True):
                copied.data = shared.data
        self.pool = ThreadPoolExecutor(self.count)

    def run(self, step: int) -> list[ItemReport]:
        """All items, dealt out to the threads; then the sum of their gradients."""
        parts = list(self.pool.map(lambda worker: self._work(worker, step), range(self.count)))
        for parameter, *others in zip(self.model.parameters(), *(r.parameters() for r in self.replicas), strict=True):
            grads = [other.grad for other in others if other.grad is not None]
            parameter.grad = sum(grads) if grads else None
        forget_unused_token(self.model)
        reports = dict(row for part in parts for row in part)
        return [reports[index] for index in range(self.objective.items)]

    def _work(self, worker: int, step: int) -> list[tuple[int, ItemReport]]:
        torch.set_num_threads(self.threads_each)
        replica, reports = self.replicas[worker], []
        replica.zero_grad(set_to_none=True)
        for index in range(worker, self.objective.items, self.count):
            item = self.objective.draw(step, index)
            reports.append((index, run_item(replica, replica.head, self.objective, item, index)))
        return reports

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown(wait=False)


class SerialWorkers:
    """One item after the other; with several processes every process runs its share of the items of all.

    With n items per process, process r takes the items r * n to r * n + n - 1 of all, so that two processes train on
    the same crops as one process with 2 n items.
    """

    count = 1

    def __init__(
        self,
        model: TrainedNetwork,
        objective: TrainingObjective,
        processes: Processes,
        device: torch.device,
        timed: bool = False,
    ) -> None:
        self.model, self.objective, self.processes, self.device = model, objective, processes, device
        self.timed = timed and device.type == "cuda"
        self.wrapped: nn.Module = model
        if processes.size > 1:
            ids = [device.index] if device.type == "cuda" else None
            for parameter in model.parameters():  # one way to store 1 x 1 x 1 kernels, that of their gradients
                if parameter.ndim == 5 and parameter.shape[2:].numel() == 1:
                    parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
            self.wrapped = DistributedDataParallel(model, device_ids=ids)
        self.pool = ThreadPoolExecutor(1) if device.type == "cuda" and not self.timed else None
        self.next: tuple[int, int, Future] | None = None

    def run(self, step: int) -> list[ItemReport]:
        """All items of this process; gradients are averaged over the processes during the last one's backward."""
        self.model.zero_grad(set_to_none=True)
        reports = []
        for number in range(self.objective.items):
            item = self._item(step, number)
            last = number == self.objective.items - 1
            shared = self.wrapped if isinstance(self.wrapped, DistributedDataParallel) else None
            waiting = nullcontext() if shared is None or last else shared.no_sync()
            with waiting:
                report = run_item(
                    self.wrapped, self.model.head, self.objective, item, self._index(number), self.processes.size > 1
                )
            if self.timed:
                before = time.perf_counter()
                torch.cuda.synchronize(self.device)
                report.seconds["network"] += time.perf_counter() - before
            reports.append(report)
        forget_unused_token(self.model)
        return reports

    def _index(self, number: int) -> int:
        return self.processes.rank * self.objective.items + number

    def _item(self, step: int, number: int) -> Any:
        """The wanted item, drawn ahead where there is a thread for it."""
        if self.pool is None:
            item = self.objective.draw(step, self._index(number))
            if self.timed:
                before = time.perf_counter()
                torch.cuda.synchronize(self.device)
                item.seconds["augmentation"] += time.perf_counter() - before
            return item
        ready = self.next[2] if self.next is not None and self.next[:2] == (step, number) else None
        item = ready.result() if ready is not None else self.objective.draw(step, self._index(number))
        following = (step, number + 1) if number + 1 < self.objective.items else (step + 1, 0)
        self.next = (*following, self.pool.submit(self.objective.draw, following[0], self._index(following[1])))
        return item

    def close(self) -> None:
        """End the thread."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
