"""How fast a machine trains, where the time goes, and how much of its arithmetic the network uses."""

from __future__ import annotations

import tempfile
import time

import numpy as np

from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.run.build import set_up
from APELocalizerLib.training.run.costs import training_flops
from APELocalizerLib.training.run.distributed import Processes
from APELocalizerLib.training.run.machine import enough_memory, gemm_peak, synchronize, training_device
from APELocalizerLib.training.run.trainer import Trainer

_WARM_UP = 2


@enough_memory()
def benchmark(
    config: TrainingConfig, steps: int, progress: Progress | None = None, cancelled: CancelCheck | None = None
) -> dict[str, float]:
    """Train `steps` steps after two of warm-up, and measure; nothing of it is kept but prepared scans in the cache.

    Returns steps_per_second, items_per_second; the shares of time in "data" (reading scans), "augmentation" (virtual
    patients, sampling, intensities), "network" (forward, loss, backward) and "rest" (optimizer, averages, waiting);
    network_tflops and peak_tflops, and network_share_of_peak.

    Where drawing and training overlap, as on a GPU, they are measured one after the other, with the device idle in
    between; a run is then faster than measured here. Raises `Cancelled` if `cancelled` returned True.
    """
    cache = config.data.cache or f"{config.output}/cache"
    device = training_device(config.machine.device, Processes())
    with tempfile.TemporaryDirectory() as folder:
        setup = set_up(config.changed(output=folder, cache=cache), device, Processes(), None, progress, cancelled)
        trainer = Trainer(setup.config, setup.objective, device, timed=True)
        seconds, parts, flops = [], [], 0.0
        flops_of: dict[tuple[int, ...], float] = {}
        for number in range(steps + _WARM_UP):
            check_cancelled(cancelled)
            report(progress, number / (steps + _WARM_UP), f"step {number + 1}")
            begun = time.perf_counter()
            trainer.train_step()
            synchronize(device)
            if number >= _WARM_UP:
                seconds.append(time.perf_counter() - begun)
                parts.append([sum(r.seconds[name] for r in trainer.reports) for name in _PARTS])
                for shape in (r.shape for r in trainer.reports):
                    if shape not in flops_of:
                        flops_of[shape] = training_flops(config.network, shape)
                    flops += flops_of[shape]
        trainer.close()
    workers = trainer.workers.count
    total = float(np.sum(seconds))
    spent = np.sum(parts, axis=0) / workers
    peak = gemm_peak(device, trainer.model.precision, config.machine.threads)
    speed = {"steps_per_second": steps / total, "items_per_second": steps * setup.objective.items / total}
    speed |= {f"{name}_share": float(value / total) for name, value in zip(_PARTS, spent, strict=True)}
    speed["rest_share"] = max(0.0, 1.0 - float(spent.sum()) / total)
    rate = flops / spent[-1]
    return speed | {
        "network_tflops": rate / 1e12, "peak_tflops": peak / 1e12, "network_share_of_peak": float(rate / peak),
    }  # fmt: skip


_PARTS = ("data", "augmentation", "network")


def in_words(speed: dict[str, float], config: TrainingConfig) -> str:
    """The result as text."""
    shares = ", ".join(
        f"{text} {100 * speed[f'{name}_share']:.0f} %"
        for name, text in (
            ("data", "reading scans"), ("augmentation", "augmentation"), ("network", "network"), ("rest", "rest"),
        )
    )  # fmt: skip
    return (
        f"{speed['steps_per_second']:.3g} steps/s, {speed['items_per_second']:.3g} items/s "
        f"(recipe {config.recipe}, {config.machine.device}, {config.machine.threads} threads)\n"
        f"Time: {shares}\n"
        f"Network: {speed['network_tflops']:.3g} TFLOP/s, {100 * speed['network_share_of_peak']:.0f} % of the measured "
        f"matrix product peak of {speed['peak_tflops']:.3g} TFLOP/s"
    )
