"""Boxes from a few supports (APE paper, Table 3), and how far they must be enlarged (Table 4). RAS mm.

Every support gives a box; the boxes of a few supports are averaged, coordinate by coordinate. Which supports is drawn
at random over the patients, several times (folds).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.localization.boxes import box_recall
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.retrievals import Retrieval
from APELocalizerLib.evaluation.study import Study, box_retrieval
from APELocalizerLib.methods.places import Subject

RECALL = 0.99
SEARCH_STEPS = 40
LARGEST = 10_000.0
"""Where the search for an enlargement ends, as factor or mm: only a box without thickness gets there."""


def few_shot_boxes(study: Study, method: str) -> list[Retrieval]:
    """The mean boxes of `few_shots` supports for every target, organ and fold, from the boxes of single supports.

    Where fewer supports show an organ whole, all of them are taken. The supports are those that the study's first
    method would take, so that methods are compared on the same draws; draws of which the method has not searched all
    are left out, and a draw that repeats an earlier one counts once.
    """
    protocol = study.protocol
    first = _single_boxes(study, study.methods[0].name)
    own = first if method == study.methods[0].name else _single_boxes(study, method)
    rng = np.random.default_rng(protocol.seed)
    results, seen = [], set()
    for fold in range(protocol.folds):
        order = [study.supports[number] for number in rng.permutation(len(study.supports))]
        for question, by_support in first.items():
            drawn = _drawn([each for each in order if each in by_support], study.subjects, protocol.few_shots)
            theirs = own.get(question, {})
            if not all(each in theirs for each in drawn) or (question, frozenset(drawn)) in seen:
                continue
            seen.add((question, frozenset(drawn)))
            target, name, definition = question
            base = Retrieval(method, target, tuple(drawn), "few-shot box", name, len(drawn), "", definition, fold=fold)
            boxes = [theirs[each] for each in drawn if theirs[each] is not None]
            truth = study.subjects[target].organs[name].box
            results.append(box_retrieval(base, mean_box(boxes) if boxes else None, truth))
    return results


def mean_box(boxes: Sequence[Box]) -> Box:
    """The box whose corners are the means of the boxes' corners."""
    low, high = np.mean([(box.minimum, box.maximum) for box in boxes], axis=0)
    return Box(tuple(low), tuple(high))


def _single_boxes(study: Study, method: str) -> dict[tuple[str, str, str], dict[str, Box | None]]:
    """Boxes found with single supports: (target, organ, definition) → support → box (None: no box was found)."""
    found: dict[tuple[str, str, str], dict[str, Box | None]] = {}
    for each in study.retrievals:
        if each.method == method and each.kind == "box" and each.shots == 1:
            found.setdefault((each.target, each.name, each.definition), {})[each.supports[0]] = each.box
    return {question: boxes for question, boxes in found.items() if not _superseded(question, found)}


def _superseded(question: tuple[str, str, str], found: Mapping[tuple[str, str, str], dict]) -> bool:
    """Whether the same organ of the target was found from more supports by the other definition of extreme points."""
    target, name, definition = question
    other = (target, name, {"mask": "box", "box": "mask"}[definition])
    here, there = len(found[question]), len(found.get(other, {}))
    return there > here or (there == here and definition == "box")


def _drawn(order: Sequence[str], subjects: Mapping[str, Subject], count: int) -> list[str]:
    """The first supports in the order, at most one scan of a patient."""
    drawn: dict[str, str] = {}
    for each in order:
        drawn.setdefault(subjects[each].patient, each)
    return list(drawn.values())[:count]


# Enlargement ----------------------------------------------------------------------------------------------------------


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
    for each in boxes:
        by_organ.setdefault(each.name, []).append(each)
    results = []
    for organ in sorted(by_organ):
        rows = by_organ[organ]
        if study.protocol.alpha_over == "organ":
            groups = [rows]
        else:
            groups = [[row for row in rows if row.fold == fold] for fold in sorted({row.fold for row in rows})]
        parts = [_enlargement(organ, group, study) for group in groups]
        alpha, recall, ratio = np.mean([(part.alpha, part.recall, part.volume_ratio) for part in parts], axis=0)
        results.append(Enlargement(organ, float(alpha), float(recall), float(ratio), len(rows)))
    return results


def _enlargement(organ: str, rows: Sequence[Retrieval], study: Study) -> Enlargement:
    protocol = study.protocol
    recalls = [_recall_of(row.box, study.subjects[row.target], organ, protocol) for row in rows]
    pooled = np.min if protocol.recall == "each" else np.mean

    def recall(alpha: float) -> float:
        return float(pooled([each(alpha) for each in recalls]))

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


def _recall_of(box: Box | None, target: Subject, organ: str, protocol: Protocol) -> Callable[[float], float]:
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
    subject = study.subjects[row.target]
    whole = subject.field_of_view if study.protocol.raw_volume == "scan" else subject.body
    part = None if row.box is None else enlarged(row.box, alpha, study.protocol).clipped(whole)
    return whole.volume_mm3, whole.volume_mm3 if part is None else part.volume_mm3


def with_few_shots(study: Study) -> Study:
    """The study with the few-shot boxes of every method among its retrievals."""
    added = [row for method in study.methods for row in few_shot_boxes(study, method.name)]
    return replace(study, retrievals=[*study.retrievals, *added])
