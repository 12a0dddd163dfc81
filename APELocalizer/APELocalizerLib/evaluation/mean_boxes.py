"""Boxes averaged over a few supports (APE paper, Table 3). RAS mm.

Every support gives a box; the boxes of a few supports are averaged, coordinate by coordinate. Which supports is drawn
at random over the patients, several times (folds).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.evaluation.answers import box_retrieval
from APELocalizerLib.evaluation.retrieval_table import Retrieval
from APELocalizerLib.evaluation.study import Study
from APELocalizerLib.methods.annotated_case import AnnotatedCase

Question = tuple[str, str, str]
"""Target, organ, and definition of its extreme points."""


def few_shot_boxes(study: Study, method: str) -> list[Retrieval]:
    """The mean boxes of `few_shots` supports for every target, organ and fold, from the boxes of single supports.

    Where fewer supports show an organ whole, all of them are taken. The supports are those that the study's first
    method would take, so that methods are compared on the same draws; draws of which the method has not searched all
    are left out, and a draw that repeats an earlier one counts once.
    """
    protocol = study.protocol
    of_first = _single_boxes(study, study.methods[0].name)
    of_method = of_first if method == study.methods[0].name else _single_boxes(study, method)
    rng = np.random.default_rng(protocol.seed)
    results, seen = [], set()
    for fold in range(protocol.folds):
        order = [study.supports[number] for number in rng.permutation(len(study.supports))]
        for question, box_of in of_first.items():
            drawn = _drawn([support for support in order if support in box_of], study.cases, protocol.few_shots)
            boxes_of_method = of_method.get(question, {})
            if not all(support in boxes_of_method for support in drawn) or (question, frozenset(drawn)) in seen:
                continue
            seen.add((question, frozenset(drawn)))
            target, name, definition = question
            base = Retrieval(method, target, tuple(drawn), "few-shot box", name, len(drawn), "", definition, fold=fold)
            boxes = [box for support in drawn if (box := boxes_of_method[support]) is not None]
            truth = study.cases[target].organs[name].box
            results.append(box_retrieval(base, mean_box(boxes) if boxes else None, truth))
    return results


def with_few_shot_boxes(study: Study) -> Study:
    """The study with the few-shot boxes of every method among its retrievals."""
    added = [row for method in study.methods for row in few_shot_boxes(study, method.name)]
    return replace(study, retrievals=[*study.retrievals, *added])


def mean_box(boxes: Sequence[Box]) -> Box:
    """The box whose corners are the means of the boxes' corners."""
    low, high = np.mean([(box.minimum, box.maximum) for box in boxes], axis=0)
    return Box(tuple(low), tuple(high))


def _single_boxes(study: Study, method: str) -> dict[Question, dict[str, Box | None]]:
    """Boxes found with single supports: question → support → box (None: no box was found)."""
    boxes: dict[Question, dict[str, Box | None]] = {}
    for row in study.retrievals:
        if row.method == method and row.kind == "box" and row.shots == 1:
            boxes.setdefault((row.target, row.name, row.definition), {})[row.supports[0]] = row.box
    return {question: box_of for question, box_of in boxes.items() if not _superseded(question, boxes)}


def _superseded(question: Question, boxes: Mapping[Question, dict]) -> bool:
    """Whether the same organ of the target was found from more supports by the other definition of extreme points."""
    target, name, definition = question
    other = (target, name, {"mask": "box", "box": "mask"}[definition])
    count, count_of_other = len(boxes[question]), len(boxes.get(other, {}))
    return count_of_other > count or (count_of_other == count and definition == "box")


def _drawn(order: Sequence[str], cases: Mapping[str, AnnotatedCase], count: int) -> list[str]:
    """The first supports in the order, at most one scan of a patient."""
    drawn: dict[str, str] = {}
    for support in order:
        drawn.setdefault(cases[support].patient, support)
    return list(drawn.values())[:count]
