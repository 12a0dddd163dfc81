"""What the machine can do: device of a process, precision, and its measured peak in matrix products."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from APELocalizerLib.core.base.device import resolve_device
from APELocalizerLib.core.base.errors import DeviceError, TrainingError
from APELocalizerLib.core.embedding.runner import is_out_of_memory
from APELocalizerLib.training.run.distributed import Processes


def training_device(name: str, processes: Processes) -> torch.device:
    """The device of a process: as named, or one GPU each where several processes share a machine's GPUs.

    Raises `DeviceError` for a device that does not exist.
    """
    if processes.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{processes.local_rank % torch.cuda.device_count()}"
    device = resolve_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 numbers in hardware, faster than float32 ones."""
    if device.type == "cuda":
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and _cpu_has("_is_amx_tile_supported")


def precision_for(wanted: str, device: torch.device) -> str:
    """The precision, "fp32" or "bf16": as wanted, or for "auto" what is fast.

    Raises `TrainingError` where there is no bf16.
    """
    if wanted != "bf16":
        return "bf16" if wanted == "auto" and has_fast_bf16(device) else "fp32"
    slow = device.type == "cpu" and _cpu_has("_is_avx512_bf16_supported")
    if not (has_fast_bf16(device) or slow):
        raise TrainingError(f'This machine\'s {device.type} has no bfloat16. Train with --precision "fp32" or "auto".')
    return "bf16"


def _cpu_has(name: str) -> bool:
    return bool(getattr(torch.cpu, name, lambda: False)())


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raises `DeviceError` with what to do instead of any error that says that memory ran out. Also a decorator."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or is_out_of_memory(error)):
            raise
        raise DeviceError(
            "Not enough memory. Train on fewer scans, a smaller network, fewer or smaller crops, or on another device."
        ) from error


def gemm_peak(device: torch.device, precision: str, threads: int, seconds: float = 1.0) -> float:
    """Most floating-point operations per second that a large matrix product reaches on the device."""
    size = 8192 if device.type == "cuda" else 1536
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    if device.type == "cpu":
        torch.set_num_threads(threads)
    first, second = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    out = torch.empty(size, size, device=device, dtype=kind)
    best, begun = 0.0, time.perf_counter()
    while best == 0.0 or time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        torch.mm(first, second, out=out)
        synchronize(device)
        best = max(best, 2.0 * size**3 / (time.perf_counter() - started))
    return best


def synchronize(device: torch.device) -> None:
    """Until all that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
