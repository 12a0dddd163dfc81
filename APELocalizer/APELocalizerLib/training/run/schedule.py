"""Learning rate over a run."""

from __future__ import annotations

import numpy as np

from APELocalizerLib.training.settings import OptimizationSettings


def learning_rate(settings: OptimizationSettings, step: int, progress: float) -> float:
    """Learning rate at a step; progress is the share of the run that is done.

    "cosine": linear warm-up, then a cosine to one hundredth. "constant": the same without the cosine. "one_cycle": as
    released, half a cosine from 1/25 of the rate up to it, and half a cosine down to 1/250000 of it. The warm-up ends
    in the middle of the run at the latest, so that a short run reaches the full rate too.
    """
    warm_up = min(settings.warm_up_steps, settings.max_steps // 2)
    if settings.schedule == "one_cycle":
        start, end = settings.learning_rate / 25.0, settings.learning_rate / 25.0 / 1e4
        turn, last, now = max(0, warm_up - 1), settings.max_steps - 1, progress * settings.max_steps
        if step < turn:
            return _between(start, settings.learning_rate, step / turn)
        return _between(settings.learning_rate, end, min(1.0, (now - turn) / max(1, last - turn)))
    warm = min(1.0, (step + 1) / warm_up) if warm_up else 1.0
    if settings.schedule == "constant":
        return float(settings.learning_rate * warm)
    cosine = 0.5 * (1 + np.cos(np.pi * min(1.0, progress)))
    return float(settings.learning_rate * warm * (0.01 + 0.99 * cosine))


def _between(start: float, end: float, share: float) -> float:
    return float(end + 0.5 * (start - end) * (1 + np.cos(np.pi * share)))
