"""Retrieval study: every annotated place of the targets, found from the supports by one or more methods.

Supports are never scans of the target's own patient. For absence the target is cropped so that a place is certainly
outside, embedded anew, and searched again; a missing annotation proves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from APELocalizerLib.core.annotations.cases import Case
from APELocalizerLib.core.base.errors import APELocalizerError, Cancelled, EvaluationError
from APELocalizerLib.core.base.geometry import Box, apply_affine
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.core.library.entries import EDGES
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.retrievals import Retrieval
from APELocalizerLib.evaluation.study_plan import StudySettings, bound, plan_searches, shared
from APELocalizerLib.evaluation.subjects import crop_superior_inferior, crops_of, read_subject
from APELocalizerLib.methods.method import Answer, Method
from APELocalizerLib.methods.places import Place, Subject

__all__ = ["Study", "StudySettings", "crop_superior_inferior", "run_study"]

READING_SHARE = 0.4
"""Part of the study that reading and embedding scans takes, for the progress bar."""


@dataclass(frozen=True, eq=False)
class Study:
    """What came out; `targets` and `supports` are ids."""

    retrievals: list[Retrieval]
    subjects: dict[str, Subject]
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
    subjects, gone = _read(targets, supports, methods, protocol, settings, progress, cancelled)
    teachers, notes = {}, []
    for case in supports:
        learned = {place: subjects[case.id].places[place] for place in methods[0].learn(subjects[case.id])}
        for method in methods[1:]:
            method.learn(subjects[case.id])
        left = [place for place in subjects[case.id].places if place not in learned]
        if left:
            names = ", ".join(sorted({place.name for place in left}))
            notes.append(f"{case.id}: {names} not learned, annotated outside the body or the field of view.")
        teachers[case.id] = replace(subjects[case.id], places=learned)
    searches = plan_searches([subjects[case.id] for case in targets], list(teachers.values()), settings, protocol.seed)
    if not searches:
        raise EvaluationError(
            "Nothing can be compared: no target shares an annotated landmark or whole organ with a support of "
            "another patient."
        )
    bound(methods, searches, settings.baseline_pairs, protocol.seed)
    results: list[Retrieval] = []
    for number, (target, group, shots) in enumerate(searches):
        check_cancelled(cancelled)
        share = READING_SHARE + (1 - READING_SHARE) * number / len(searches)
        report(progress, share, f"Searching {target.id}")
        for method in methods:
            if method.can_find(target.id, [each.id for each in group]):
                found = _present(method, target, group, protocol)
                for crop_id, places in gone.get(target.id, {}).items() if method.says_not_found else ():
                    found += _absent(method, target, crop_id, places, group)
                results += [replace(each, shots=shots) for each in found]
    notes = [note for subject in subjects.values() for note in subject.notes] + notes
    return Study(
        results,
        subjects,
        tuple(case.id for case in targets),
        tuple(case.id for case in supports),
        protocol,
        settings,
        tuple(methods),
        tuple(notes),
    )


def _read(
    targets: Sequence[Case],
    supports: Sequence[Case],
    methods: Sequence[Method],
    protocol: Protocol,
    settings: StudySettings,
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> tuple[dict[str, Subject], dict[str, dict[str, tuple[Place, ...]]]]:
    """Every scan, shown to every method; and the crops of each target with what is certainly outside them."""
    everyone = {case.id: case for case in (*supports, *targets)}
    subjects, gone = {}, {}
    for number, case in enumerate(everyone.values()):
        check_cancelled(cancelled)
        report(progress, READING_SHARE * number / len(everyone), f"Embedding {case.id}")
        scan = read_scan(case.path)
        subject = read_subject(case, scan, protocol, settings.organs, settings.skipped)
        subjects[case.id] = subject
        for method in methods:
            method.prepare(case.id, scan)
        if not settings.absent or case.id not in {each.id for each in targets}:
            continue
        for crop in crops_of(subject, scan, protocol.crop_margin_mm):
            try:
                for method in methods:
                    if method.says_not_found:
                        method.prepare(crop.id, crop.scan)
            except Cancelled:
                raise
            except APELocalizerError:  # too small a part of the body is left to embed
                continue
            gone.setdefault(case.id, {})[crop.id] = crop.gone
    return subjects, gone


# One search -----------------------------------------------------------------------------------------------------------


def _present(method: Method, target: Subject, group: Sequence[Subject], protocol: Protocol) -> list[Retrieval]:
    places = shared(target, group)
    rows = []
    for place, answer in (method.find(target.id, group, places) if places else {}).items():
        base = _base(method, target, place, answer, group)
        truth = target.places[place]
        found = _rounded(answer.positions, target) if protocol.answers == "voxel" else answer.positions
        if place.kind != "organ":
            rows.append(_point(base, place.kind, "", found[0] - truth[0]))
            continue
        rows += [_point(base, "edge", edge, d) for edge, d in zip(EDGES, found - truth, strict=True)]
        box = _box(answer, found, target, protocol)
        rows.append(box_retrieval(replace(base, kind="box"), box, target.organs[place.name].box))
    return rows


def _absent(
    method: Method,
    target: Subject,
    crop_id: str,
    gone: Sequence[Place],
    group: Sequence[Subject],
) -> list[Retrieval]:
    places = [place for place in shared(target, group) if place in gone]
    answers = method.find(crop_id, group, places) if places else {}
    kinds = {"organ": "box"}
    return [
        replace(
            _base(method, target, place, answer, group),
            kind=f"absent {kinds.get(place.kind, place.kind)}",
            part=crop_id.removeprefix(f"{target.id} "),
        )
        for place, answer in answers.items()
    ]


def _base(method: Method, target: Subject, place: Place, answer: Answer, group: Sequence[Subject]) -> Retrieval:
    """The retrieval without its errors; its uncertainty is the target's and the supports' mean one together."""
    sigmas = [support.sigma(place) for support in group if place in support.places]
    own = target.sigma(place)
    sigma = float(np.sqrt(own**2 + np.square(sigmas).sum() / len(sigmas) ** 2)) if own and all(sigmas) else 0.0
    return Retrieval(
        method.name,
        target.id,
        tuple(support.id for support in group),
        place.kind,
        place.name,
        definition=place.definition,
        uncertainty_mm=sigma,
        round_trip_mm=answer.round_trip_mm,
        distance=answer.distance,
        found=answer.found,
    )


def _point(base: Retrieval, kind: str, part: str, difference: np.ndarray) -> Retrieval:
    r, a, s = map(float, difference)
    error = float(np.linalg.norm(difference))
    return replace(base, kind=kind, part=part, error_mm=error, error_r_mm=r, error_a_mm=a, error_s_mm=s)


def box_retrieval(base: Retrieval, box: Box | None, truth: Box) -> Retrieval:
    """The retrieval of a box: its overlap with the true one, the distance of its center and walls; IoU 0 without."""
    if box is None:
        return replace(base, iou=0.0, box=None)
    r, a, s = map(float, box.center - truth.center)
    walls = np.abs(np.subtract((box.minimum, box.maximum), (truth.minimum, truth.maximum)))
    return replace(
        base,
        iou=box.iou(truth),
        wall_error_mm=float(walls.mean()),
        error_mm=float(np.linalg.norm(box.center - truth.center)),
        error_r_mm=r,
        error_a_mm=a,
        error_s_mm=s,
        box=box,
    )


def _box(answer: Answer, positions: np.ndarray, target: Subject, protocol: Protocol) -> Box | None:
    """Box of six found positions (6, 3), as the protocol makes it; None if opposite walls are in the wrong order."""
    if protocol.box_from == "all":
        return Box.around(positions)
    if protocol.box_from == "pairs":
        walls = np.array([positions[[0, 2, 4], [0, 1, 2]], positions[[1, 3, 5], [0, 1, 2]]])
    elif answer.box is None or protocol.answers == "exact":
        return answer.box
    else:
        walls = np.sort(_rounded(np.array([answer.box.minimum, answer.box.maximum]), target), axis=0)
    return Box(tuple(walls[0]), tuple(walls[1])) if np.all(walls[1] > walls[0]) else None


def _rounded(positions: np.ndarray, target: Subject) -> np.ndarray:
    """Positions moved to the nearest voxel centers of the target's scan."""
    to_index = np.linalg.inv(target.ijk_to_ras)
    return apply_affine(target.ijk_to_ras, np.rint(apply_affine(to_index, positions)))
