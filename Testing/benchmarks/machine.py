"""The machine that was measured, without its name, and its physical limits."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.timing import Times, alternating, repeated

FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve")
PACKAGES = ("torch", "numpy", "SimpleITK", "scipy", "scikit-image")
GEMM = "gemm "
GEMM_SIZES = (1024, 2048, 3072)
CUDA_GEMM_SIZES = (4096, 8192)


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def description() -> list[str]:
    """The machine in a few lines: processor, memory, system, versions, graphics card."""
    info = _cpu_info()
    present = set(info.get("flags", info.get("Features", "")).split())
    flags = " ".join(flag for flag in FLAGS if flag in present) or "flags unknown"
    mhz = f", {float(info['cpu MHz']) / 1000:.1f} GHz at the start" if "cpu MHz" in info else ""
    numbers = ", ".join(f"{key} {info[key]}" for key in ("cpu family", "model", "stepping") if key in info)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return [
        f"Processor: {info.get('model name') or platform.machine()} ({numbers or 'model unknown'}{mhz}), "
        f"{cores()} cores used; {flags}",
        f"Memory: {_memory_gb():.0f} GB. Graphics card: {card}",
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {_versions()}",
        f"Threads of PyTorch: {torch.get_num_threads()}; CPU capability {torch.backends.cpu.get_cpu_capability()}",
    ]


class OtherLoad:
    """How many cores other processes keep busy from its making on."""

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float | None:
        """Cores busy with other processes, on average until now; None where the system does not tell."""
        if self._start is None:
            return None
        elapsed, busy, own = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return max(0.0, (busy - own) / max(elapsed, 1e-3))

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds on the clock, of all work of all cores, and of the work of this process and its finished children."""
        if not Path("/proc/stat").is_file():
            return None
        values = [int(word) for word in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
        busy = (sum(values) - values[3] - values[4]) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy, sum(os.times()[:4])


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 by itself."""
    present = _cpu_info().get("flags", "").split()
    return "avx512_bf16" in present or "amx_bf16" in present


@dataclass(frozen=True)
class Peak:
    """The machine's peak in practice: the matrix product with the most FLOP/s in the median, its size, and the FLOP/s
    of the fastest single product of all."""

    size: int
    median: float
    best: float

    @classmethod
    def of(cls, times: Mapping[str, Times]) -> "Peak":
        """From the times of `gemms`, among which others may be."""
        flops = {name: 2.0 * int(name[len(GEMM) :]) ** 3 for name in times if name.startswith(GEMM)}
        fastest = max(flops, key=lambda name: flops[name] / times[name].median)
        best = max(flops[name] / min(times[name].seconds) for name in flops)
        return cls(int(fastest[len(GEMM) :]), flops[fastest] / times[fastest].median, best)


def gemms(dtype: torch.dtype, device: str = "cpu") -> dict[str, Callable[[], None]]:
    """Products of square matrices of several sizes, by name, to be timed in turn with what is compared with them."""
    sizes = GEMM_SIZES if device == "cpu" else CUDA_GEMM_SIZES
    return {f"{GEMM}{size}": gemm(dtype, size, device) for size in sizes}


def gemm(dtype: torch.dtype, size: int, device: str = "cpu") -> Callable[[], None]:
    """One product of two square matrices, to be timed."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    out = torch.empty(size, size, dtype=dtype, device=device)

    def work() -> None:
        torch.mm(a, b, out=out)
        if device != "cpu":
            torch.cuda.synchronize()

    return work


def measured_peak(dtype: torch.dtype, repeats: int = 7) -> Peak:
    """The peak of the CPU by itself."""
    return Peak.of(alternating(gemms(dtype), repeats))


def copy_bandwidth(megabytes: int = 256) -> float:
    """Bytes/s of the best of 7 copies in memory, reading and writing counted."""
    source = torch.ones(megabytes << 18)
    target = torch.zeros_like(source)
    return 2 * source.nbytes / min(repeated(lambda: target.copy_(source), 7).seconds)


def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {"model name": platform.processor()}
    first = path.read_text(encoding="utf-8").split("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)
