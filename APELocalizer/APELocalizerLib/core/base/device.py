"""Choice of the computing device, automatically or by name."""

import os

import torch

from APELocalizerLib.core.base.errors import DeviceError


def resolve_device(name: str = "auto") -> torch.device:
    """Device for "auto" (CUDA, then Apple's MPS, then CPU) or for a name such as "cpu", "cuda:1" or "mps".

    Raises `DeviceError` when the named device does not exist on this computer.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f'"{name}" is not a device. Use "auto", "cpu", "cuda", "cuda:1" or "mps".') from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise DeviceError(f'"{name}" was asked for, but PyTorch finds no CUDA GPU. Choose "auto" or "cpu".')
        if (device.index or 0) >= count:
            names = ", ".join(f"cuda:{index}" for index in range(count))
            raise DeviceError(f'"{name}" does not exist on this computer. Available: {names}, cpu.')
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError('"mps" was asked for, but this is not an Apple computer with MPS. Choose "auto" or "cpu".')
    elif device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f'"{name}" is not supported. Use "auto", "cpu", "cuda", "cuda:1" or "mps".')
    return device


def describe_devices() -> list[tuple[str, str]]:
    """Name and description of every usable device, best first, beginning with "auto"."""
    devices = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            try:
                free, total = torch.cuda.mem_get_info(index)
                memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GB free"
            except RuntimeError:  # full, or used by one program alone
                memory = "busy"
            label = f"{torch.cuda.get_device_name(index)}, {memory}"
            devices.append((f"cuda:{index}", label))
    if torch.backends.mps.is_available():
        devices.append(("mps", "Apple GPU"))
    devices.append(("cpu", f"CPU, {os.cpu_count() or 1} cores"))
    return [("auto", f"Automatic ({devices[0][1]})"), *devices]


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16 matrices; False where PyTorch does not tell."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in known)
