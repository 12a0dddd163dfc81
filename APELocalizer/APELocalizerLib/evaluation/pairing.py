"""Which targets are searched with which supports, and for which places. Supports are always other patients' scans."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from APELocalizerLib.evaluation.annotated_cases import SKIPPED
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place


@dataclass(frozen=True)
class StudySettings:
    """What is tried. `shots`: supports per search, 0 for all at once; of several, `draws` random sets are tried.

    `pairs` bounds the pairs of target and single support that are tried at all, and `baseline_pairs` those that are
    tried by methods that are slow for every pair (None: all). `absent`: also search for what was cropped away.
    `organs` keeps only these, `skipped` are patterns of those to leave out.
    """

    shots: tuple[int, ...] = (1, 0)
    draws: int = 10
    pairs: int | None = None
    baseline_pairs: int | None = 20
    absent: bool = True
    organs: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = SKIPPED


@dataclass(frozen=True, eq=False)
class Search:
    """A target, the supports that it is searched with, and how many of them were asked for (0: all)."""

    target: AnnotatedCase
    supports: tuple[AnnotatedCase, ...]
    shots: int

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """Ids of the target and each support."""
        return {(self.target.id, support.id) for support in self.supports}


def plan_searches(
    targets: Sequence[AnnotatedCase], supports: Sequence[AnnotatedCase], settings: StudySettings, seed: int
) -> list[Search]:
    """Every search that shares a place, repeatably for a seed: single supports first, then the larger groups."""
    rng = np.random.default_rng(seed)
    others = {
        target.id: [
            support for support in supports if support.patient != target.patient and shared_places(target, [support])
        ]
        for target in targets
    }
    singles = [Search(target, (support,), 1) for target in targets for support in others[target.id]]
    if settings.pairs is not None and settings.pairs < len(singles):
        singles = [singles[number] for number in sorted(rng.permutation(len(singles))[: settings.pairs])]
    searches = singles if 1 in settings.shots else []
    for shots in settings.shots:
        for target in targets:
            available = others[target.id]
            if shots == 1 or not available or (len(available) == 1 and 1 in settings.shots):
                continue
            if shots == 0 or shots >= len(available):
                searches.append(Search(target, tuple(available), shots))
                continue
            drawn = {tuple(sorted(rng.permutation(len(available))[:shots])) for _ in range(settings.draws)}
            searches += [Search(target, tuple(available[n] for n in group), shots) for group in sorted(drawn)]
    return searches


def pairs_of_slow_methods(searches: Sequence[Search], most: int | None, seed: int) -> set[tuple[str, str]]:
    """At most so many pairs (target id, support id): each target in turn, with supports drawn at random."""
    rng = np.random.default_rng(seed)
    supports_of: dict[str, list[str]] = {}
    for search in searches:
        if len(search.supports) == 1:
            supports_of.setdefault(search.target.id, []).append(search.supports[0].id)
    for supports in supports_of.values():
        rng.shuffle(supports)
    rounds = range(max(map(len, supports_of.values()), default=0))
    order = [
        (target, supports[number])
        for number in rounds
        for target, supports in supports_of.items()
        if number < len(supports)
    ]
    return set(order[:most])


def shared_places(target: AnnotatedCase, supports: Iterable[AnnotatedCase]) -> list[Place]:
    """Places of the target that one of the supports has too.

    Of an organ known in both ways, the label map's points count if all supports that show it have label maps too, else
    those of the boxes.
    """
    supports_with: dict[Place, int] = {}
    for support in supports:
        for place in support.places:
            supports_with[place] = supports_with.get(place, 0) + 1

    def count(place: Place, definition: str) -> int:
        same_organ = replace(place, definition=definition)
        return supports_with.get(same_organ, 0) if same_organ in target.places else 0

    def counts(place: Place) -> bool:
        masks, boxes = count(place, "mask"), count(place, "box")
        return place.definition == ("mask" if masks and masks >= boxes else "box")

    return [
        place for place in target.places if place in supports_with and (place.definition == "point" or counts(place))
    ]
