"""How far found boxes must be enlarged until they hold 99 % of the organ (APE paper, Table 4). RAS mm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.localization.boxes import box_recall
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.retrieval_table import Retrieval
from APELocalizerLib.evaluation.study import Study
from APELocalizerLib.methods.annotated_case import AnnotatedCase

RECALL = 0.99
"""Part of the organ that the enlarged box must hold."""

SEARCH_STEPS = 40
"""Halvings of the interval in which the enlargement lies."""

LARGEST = 10_000.0
"""Where the search for an enlargement ends, as factor or mm: only a box without thickness gets there."""


@dataclass(frozen=True)
class Enlargement:
    """How far an organ's boxes must be enlarged for the wanted recall, and what is left of the scan's volume then.

    `alpha` is the factor (or margin in mm), `volume_ratio` how many times smaller the cropped scan is (VR@99). Both are
    NaN where no enlargement gives the wanted recall, and `recall` is then that of the largest one tried.
    """

    organ: str
    alpha: float
    recall: float
    volume_ratio: float
    boxes: int


def enlargements(boxes: Sequence[Retrieval], study: Study) -> list[Enlargement]:
    """Enlargement of every organ from its few-shot boxes, sorted by name; with `alpha_over` fold, the folds' means."""
    by_organ: dict[str, list[Retrieval]] = {}
    for row in boxes:
        by_organ.setdefault(row.name, []).append(row)
    results = []
    for organ in sorted(by_organ):
        rows = by_organ[organ]
        if study.protocol.alpha_over == "organ":
            groups = [rows]
        else:
            groups = [
                [row for row in rows if row.fold == fold]
                for fold in sorted({row.fold for row in rows if row.fold is not None})
            ]
        parts = [_enlargement(organ, group, study) for group in groups]
        alpha, recall, ratio = np.mean([(part.alpha, part.recall, part.volume_ratio) for part in parts], axis=0)
        results.append(Enlargement(organ, float(alpha), float(recall), float(ratio), len(rows)))
    return results


def _enlargement(organ: str, rows: Sequence[Retrieval], study: Study) -> Enlargement:
    protocol = study.protocol
    recalls = [_recall_of(row.box, study.cases[row.target], organ, protocol) for row in rows]
    pooled = np.min if protocol.recall == "each" else np.mean

    def recall(alpha: float) -> float:
        return float(pooled([recall_of_box(alpha) for recall_of_box in recalls]))

    low, high = (1.0, 2.0) if protocol.enlargement == "factor" else (0.0, 20.0)
    if recall(low) < RECALL:
        while recall(high) < RECALL and high < LARGEST:
            low, high = high, 2 * high
        if recall(high) < RECALL:
            return Enlargement(organ, float("nan"), recall(high), float("nan"), len(rows))
        for _ in range(SEARCH_STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if recall(middle) >= RECALL else (middle, high)
    else:
        high = low
    raw, cropped = np.array([_volumes(row, high, study) for row in rows]).T
    ratio = float((raw / cropped).mean()) if protocol.volume_ratio == "mean" else float(raw.mean() / cropped.mean())
    return Enlargement(organ, high, recall(high), ratio, len(rows))


def enlarged(box: Box, alpha: float, protocol: Protocol) -> Box:
    """The box enlarged about its center by the factor or the margin `alpha`."""
    if protocol.enlargement == "factor":
        return box.enlarged(alpha)
    return Box(tuple(np.array(box.minimum) - alpha), tuple(np.array(box.maximum) + alpha))


def _recall_of(box: Box | None, target: AnnotatedCase, organ: str, protocol: Protocol) -> Callable[[float], float]:
    """Part of the organ (of its box where only that is known) inside the box, as a function of the enlargement.

    Where no box was found nothing can be cropped, so that all of the organ remains.
    """
    if box is None:
        return lambda alpha: 1.0
    marks = target.organs[organ]
    if marks.voxels is None:
        return lambda alpha: box_recall(enlarged(box, alpha, protocol), marks.box)
    away, half = np.abs(marks.voxels - box.center), box.size / 2
    needed = (away / np.maximum(half, 1e-6)) if protocol.enlargement == "factor" else (away - half)
    worst = np.sort(needed.max(axis=1))
    return lambda alpha: float(np.searchsorted(worst, alpha + 1e-9, "right") / len(worst))


def _volumes(row: Retrieval, alpha: float, study: Study) -> tuple[float, float]:
    """Volume of the scan (or body), and of the part of it in the enlarged box, mm³; all of it without a box in it."""
    case = study.cases[row.target]
    whole = case.field_of_view if study.protocol.raw_volume == "scan" else case.body
    part = None if row.box is None else enlarged(row.box, alpha, study.protocol).clipped(whole)
    return whole.volume_mm3, whole.volume_mm3 if part is None else part.volume_mm3
