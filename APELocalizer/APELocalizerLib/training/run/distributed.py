"""Several processes on one or many machines, as `torchrun` starts them; one process alone is the simplest case."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

_PATIENCE = timedelta(hours=24)
"""One process prepares the scans while the others wait."""


@dataclass(frozen=True)
class Processes:
    """This process among all: its rank, their number, and its rank on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def join(cls, device: str) -> Processes:
        """Join the processes that `torchrun` started (NCCL for CUDA, else gloo); alone without it."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1 or "RANK" not in os.environ:
            return cls()
        processes = cls(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", os.environ["RANK"])))
        if not distributed.is_initialized():
            on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
            backend = "nccl" if on_gpu else "gloo"
            distributed.init_process_group(backend, rank=processes.rank, world_size=size, timeout=_PATIENCE)
        return processes

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Whether this is the first process on its machine, which prepares the scans."""
        return self.local_rank == 0

    def mean(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Mean over all processes, the same in each."""
        if self.size == 1:
            return list(values)
        kind = torch.float32 if device.type == "mps" else torch.float64
        tensor = torch.tensor(list(values), dtype=kind, device=device)
        distributed.all_reduce(tensor)
        return (tensor / self.size).tolist()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def leave(self) -> None:
        """End the connection."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
