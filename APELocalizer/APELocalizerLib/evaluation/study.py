"""Retrieval study: every annotated place of the targets, found from the supports by one or more methods.

Supports are never scans of the target's own patient. For absence the target is cropped so that a place is certainly
outside, shown anew, and searched again; a missing annotation proves nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from APELocalizerLib.core.annotations.cases import Case
from APELocalizerLib.core.base.errors import APELocalizerError, Cancelled, EvaluationError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.evaluation.annotated_cases import annotated_case
from APELocalizerLib.evaluation.answers import absent_retrievals, retrievals_of
from APELocalizerLib.evaluation.crops import crops_of
from APELocalizerLib.evaluation.pairing import (
    Search,
    StudySettings,
    pairs_of_slow_methods,
    plan_searches,
    shared_places,
)
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.retrieval_table import Retrieval
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place
from APELocalizerLib.methods.method import Method

READING_SHARE = 0.4
"""Part of the study that reading and embedding scans takes, for the progress bar."""


@dataclass(frozen=True, eq=False)
class Study:
    """What came out; `targets` and `supports` are ids."""

    retrievals: list[Retrieval]
    cases: dict[str, AnnotatedCase]
    targets: tuple[str, ...]
    supports: tuple[str, ...]
    protocol: Protocol
    settings: StudySettings
    methods: tuple[Method, ...]
    notes: tuple[str, ...]


def run_study(
    targets: Sequence[Case],
    supports: Sequence[Case],
    methods: Sequence[Method],
    protocol: Protocol | None = None,
    settings: StudySettings | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> Study:
    """Retrieve every annotation of every target from the supports of other patients, with every method.

    A place takes part if the first method can learn it. Raises `EvaluationError` if nothing can be compared, and
    `Cancelled`.
    """
    protocol, settings = protocol or Protocol(), settings or StudySettings()
    material = _read(targets, supports, methods, protocol, settings, progress, cancelled)
    learned, notes = _learn([material.cases[case.id] for case in supports], methods)
    searches = plan_searches([material.cases[case.id] for case in targets], learned, settings, protocol.seed)
    if not searches:
        raise EvaluationError(
            "Nothing can be compared: no target shares an annotated landmark or whole organ with a support of "
            "another patient."
        )
    slow_pairs = pairs_of_slow_methods(searches, settings.baseline_pairs, protocol.seed)
    retrievals: list[Retrieval] = []
    for number, search in enumerate(searches):
        check_cancelled(cancelled)
        share = READING_SHARE + (1 - READING_SHARE) * number / len(searches)
        report(progress, share, f"Searching {search.target.id}")
        for method in methods:
            if not method.slow_per_pair or search.pairs <= slow_pairs:
                retrievals += _searched(method, search, material.gone.get(search.target.id, {}), protocol)
    return Study(
        retrievals,
        material.cases,
        tuple(case.id for case in targets),
        tuple(case.id for case in supports),
        protocol,
        settings,
        tuple(methods),
        tuple([*(note for case in material.cases.values() for note in case.notes), *notes]),
    )


# Reading and learning -------------------------------------------------------------------------------------------------


@dataclass
class _Material:
    """Cases by id, and by target the crops with the places that are certainly outside them."""

    cases: dict[str, AnnotatedCase] = field(default_factory=dict)
    gone: dict[str, dict[str, tuple[Place, ...]]] = field(default_factory=dict)


def _read(
    targets: Sequence[Case],
    supports: Sequence[Case],
    methods: Sequence[Method],
    protocol: Protocol,
    settings: StudySettings,
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> _Material:
    """Every scan, shown to every method; and the crops of each target."""
    everyone = {case.id: case for case in (*supports, *targets)}
    target_ids = {case.id for case in targets}
    material = _Material()
    for number, case in enumerate(everyone.values()):
        check_cancelled(cancelled)
        report(progress, READING_SHARE * number / len(everyone), f"Embedding {case.id}")
        scan = read_scan(case.path)
        material.cases[case.id] = annotated_case(case, scan, protocol, settings.organs, settings.skipped)
        for method in methods:
            method.prepare(case.id, scan)
        if settings.absent and case.id in target_ids:
            material.gone[case.id] = _show_crops(material.cases[case.id], scan, methods, protocol)
    return material


def _show_crops(
    target: AnnotatedCase, scan: Scan, methods: Sequence[Method], protocol: Protocol
) -> dict[str, tuple[Place, ...]]:
    """Show a target's crops to the methods that can say "not found"; what is outside each crop, by the crop's id."""
    gone = {}
    for crop in crops_of(target, scan, protocol.crop_margin_mm):
        try:
            for method in methods:
                if method.says_not_found:
                    method.prepare(crop.id, crop.scan)
        except Cancelled:
            raise
        except APELocalizerError:  # too small a part of the body is left to embed
            continue
        gone[crop.id] = crop.gone
    return gone


def _learn(supports: Sequence[AnnotatedCase], methods: Sequence[Method]) -> tuple[list[AnnotatedCase], list[str]]:
    """The supports with the places that the first method learned, and what it did not, in sentences."""
    learned, notes = [], []
    for support in supports:
        places = {place: support.places[place] for place in methods[0].learn(support)}
        for method in methods[1:]:
            method.learn(support)
        left_out = sorted({place.name for place in support.places if place not in places})
        if left_out:
            notes.append(
                f"{support.id}: {', '.join(left_out)} not learned, annotated outside the body or the field of view."
            )
        learned.append(replace(support, places=places))
    return learned, notes


# One search -----------------------------------------------------------------------------------------------------------


def _searched(
    method: Method, search: Search, gone: Mapping[str, Sequence[Place]], protocol: Protocol
) -> list[Retrieval]:
    """What a method finds of everything shared on the target, and then on its crops of everything that is gone."""
    target, supports = search.target, search.supports
    places = shared_places(target, supports)
    answers = method.find(target.id, supports, places) if places else {}
    retrievals = retrievals_of(answers, method.name, target, supports, protocol)
    for crop_id, places_gone in gone.items() if method.says_not_found else ():
        asked = [place for place in places if place in places_gone]
        answers = method.find(crop_id, supports, asked) if asked else {}
        part = crop_id.removeprefix(f"{target.id} ")
        retrievals += absent_retrievals(answers, method.name, target, supports, part)
    return [replace(retrieval, shots=search.shots) for retrieval in retrievals]
