"""Figures of merit: error summaries, ROC of the not-found decision, and the enlargement for a wanted recall."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation and quantiles of errors in mm."""

    count: int
    mean: float
    std: float
    median: float
    p90: float


def summary(errors: np.ndarray) -> Summary:
    """Summary of errors (n,); NaN when empty."""
    errors = np.asarray(errors, dtype=float)
    if not len(errors):
        return Summary(0, *[float("nan")] * 4)
    figures = (errors.mean(), errors.std(), np.median(errors), np.quantile(errors, 0.9))
    return Summary(len(errors), *map(float, figures))


def pooled(errors: np.ndarray, structures: Sequence[str], pooling: str = "retrievals") -> Summary:
    """Summary over all errors (n,), or with pooling "structures" over the mean errors of equally named structures."""
    errors = np.asarray(errors, dtype=float)
    if pooling == "structures":
        names = np.array(structures)
        means = [errors[names == name].mean() for name in np.unique(names)] if len(errors) else []
        return replace(summary(np.array(means)), count=len(errors))
    return summary(errors)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two series (n,) without ties; NaN for fewer than three."""
    if len(first) < 3:
        return float("nan")
    ranks = np.array([np.argsort(np.argsort(series)) for series in (first, second)], dtype=np.float64)
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Probability that a score of `outside` exceeds one of `inside` (ties count half): area under the ROC curve."""
    inside, outside = np.sort(np.asarray(inside, float)), np.asarray(outside, float)
    below = np.searchsorted(inside, outside, "left")
    not_above = np.searchsorted(inside, outside, "right")
    return float((below + not_above).mean() / 2 / len(inside))


def best_threshold(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float, float]:
    """Threshold of best balanced accuracy, with its sensitivity (inside kept) and specificity (outside refused)."""
    inside, outside = np.asarray(inside, float), np.asarray(outside, float)
    values = np.unique(np.concatenate([inside, outside]))
    candidates = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    kept = np.array([(inside <= t).mean() for t in candidates])
    refused = np.array([(outside > t).mean() for t in candidates])
    best = int(np.argmax(kept + refused))
    return float(candidates[best]), float(kept[best]), float(refused[best])
