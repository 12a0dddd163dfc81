"""Which targets are searched with which supports, and for which places. Supports are always other patients' scans."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from APELocalizerLib.evaluation.subjects import SKIPPED
from APELocalizerLib.methods.method import Method
from APELocalizerLib.methods.places import Place, Subject


@dataclass(frozen=True)
class StudySettings:
    """What is tried. `shots`: supports per search, 0 for all at once; of several, `draws` random sets are tried.

    `pairs` and `baseline_pairs` bound the pairs of target and single support that are tried at all, and by methods
    that can be bounded (None: all). `absent`: also search for what was cropped away. `organs` keeps only these.
    """

    shots: tuple[int, ...] = (1, 0)
    draws: int = 10
    pairs: int | None = None
    baseline_pairs: int | None = 20
    absent: bool = True
    organs: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = SKIPPED


Search = tuple[Subject, tuple[Subject, ...], int]
"""A target, its supports, and how many were asked for (0: all)."""


def plan_searches(
    targets: Sequence[Subject], supports: Sequence[Subject], settings: StudySettings, seed: int
) -> list[Search]:
    """Target and supports of every search that shares a place: single supports first, then the larger groups."""
    rng = np.random.default_rng(seed)
    others = {
        target.id: [each for each in supports if each.patient != target.patient and shared(target, [each])]
        for target in targets
    }
    singles: list[Search] = [(target, (each,), 1) for target in targets for each in others[target.id]]
    if settings.pairs is not None and settings.pairs < len(singles):
        singles = [singles[number] for number in sorted(rng.permutation(len(singles))[: settings.pairs])]
    searches = singles if 1 in settings.shots else []
    for shots in settings.shots:
        for target in targets:
            available = others[target.id]
            if shots == 1 or not available or (len(available) == 1 and 1 in settings.shots):
                continue
            if shots == 0 or shots >= len(available):
                searches.append((target, tuple(available), shots))
                continue
            drawn = {tuple(sorted(rng.permutation(len(available))[:shots])) for _ in range(settings.draws)}
            searches += [(target, tuple(available[number] for number in group), shots) for group in sorted(drawn)]
    return searches


def bound(methods: Sequence[Method], searches: Sequence[Search], most: int | None, seed: int) -> None:
    """Tell the methods that can be bounded which pairs to try: each target in turn, with supports drawn at random."""
    rng = np.random.default_rng(seed)
    singles: dict[str, list[str]] = {}
    for target, group, _ in searches:
        if len(group) == 1:
            singles.setdefault(target.id, []).append(group[0].id)
    for each in singles.values():
        rng.shuffle(each)
    rounds = range(max(map(len, singles.values()), default=0))
    order = [(target, each[n]) for n in rounds for target, each in singles.items() if n < len(each)]
    for method in methods:
        if hasattr(method, "pairs"):
            method.pairs = set(order[:most])


def shared(target: Subject, supports: Iterable[Subject]) -> list[Place]:
    """Places of the target that one of the supports teaches.

    Of an organ known in both ways, the label map's points count if all supports that show it have label maps too, else
    those of the boxes.
    """
    taught: dict[Place, int] = {}
    for support in supports:
        for place in support.places:
            taught[place] = taught.get(place, 0) + 1

    def teachers(place: Place, definition: str) -> int:
        same = replace(place, definition=definition)
        return taught.get(same, 0) if same in target.places else 0

    def counts(place: Place) -> bool:
        masks, boxes = teachers(place, "mask"), teachers(place, "box")
        return place.definition == ("mask" if masks and masks >= boxes else "box")

    return [place for place in target.places if place in taught and (place.definition == "point" or counts(place))]
