"""Measure how far off answers are, and write the table by which landmarks get an expected error and a grade.

    python Resources/Evaluation/fit_confidence.py DATA [DATA ...] [--out confidence.json]

DATA are folders of annotated scans as for `ape-localizer evaluate`. Every scan is searched with the landmarks of every
scan of another patient (one shot), and with those of all and of three other patients (several). Its coordinates are
aligned without its own patient's scans. What is printed is measured with a table that was fitted without the patient;
the table that is written is fitted with all. Needs SciPy 1.12 or newer.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import isotonic_regression, nnls

from APELocalizerLib import Engine, read_scan
from APELocalizerLib.core.annotations.cases import Case
from APELocalizerLib.core.annotations.folder import read_data_folder
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.alignment import Reference, align
from APELocalizerLib.core.localization.confidence import TABLE, Calibration, lies_beyond
from APELocalizerLib.core.localization.localize import locate
from APELocalizerLib.evaluation.metrics import rank_correlation

BINS = 10
"""Groups of equally many answers, by what is known of them, whose errors are tabulated."""


@dataclass
class Answers:
    """What is known of n found answers (n, 3), how far off they are in mm (n,), and whose scan was searched (n,)."""

    features: np.ndarray
    errors_mm: np.ndarray
    patients: np.ndarray

    def of(self, chosen: np.ndarray) -> "Answers":
        """Those that were chosen, bool (n,)."""
        return Answers(self.features[chosen], self.errors_mm[chosen], self.patients[chosen])


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=TABLE)
    arguments = parser.parse_args()
    engine = Engine()
    cases = [case for case in read_data_folder(arguments.data).values() if case.points]
    maps = {case.id: map_without_patient(engine, case, cases) for case in cases}
    learned = {case.id: library_of(case, maps[case.id]) for case in cases}
    table = {"model_id": engine.model.id, "measured_on": ""}
    texts = []
    for kind, measured in (("one", one_shot(cases, learned)), ("several", several_shots(cases, learned))):
        answers = joined(engine.model.round_trip_threshold_mm, maps, measured)
        texts.append(f"{kind}: {report(answers)}")
        print(texts[-1], flush=True)
        fitted = fit(answers)
        table[kind] = {
            "weights": fitted.weights.round(4).tolist(), "scores": fitted.scores.round(4).tolist(),
            "expected_error_mm": fitted.expected_error_mm.round(2).tolist(),
            "radius_90_mm": fitted.radius_90_mm.round(2).tolist(),
        }  # fmt: skip
    people, points = len({case.person for case in cases}), sum(len(case.points) for case in cases)
    table["measured_on"] = f"{len(cases)} scans of {people} patients with {points} landmarks; {'; '.join(texts)}"
    arguments.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def map_without_patient(engine: Engine, case: Case, cases: list[Case]) -> EmbeddingMap:
    """The map of a case, aligned with what the built-in library knows of other patients."""
    built_in = engine.library("built-in")
    names = {other.id for other in cases if other.person == case.person}
    gone = {support.id for support in built_in.supports if support.name in names}
    kept = [(mark, tuple(s for s in mark.shots if s.support_id not in gone)) for mark in built_in.landmarks]
    landmarks = tuple(replace(mark, shots=shots) for mark, shots in kept if shots)
    reference = Reference(replace(built_in, landmarks=landmarks, organs=()))
    plain = engine.using(reference=None).map(read_scan(case.path))
    aligned = align(plain, reference)
    return aligned if aligned is plain else in_space(aligned, Reference(built_in))


def in_space(embedding_map: EmbeddingMap, reference: Reference) -> EmbeddingMap:
    """The map, to be compared with all that are aligned with the reference or with a part of it."""
    passes = tuple(in_space(single, reference) for single in embedding_map.passes)
    return replace(embedding_map, space=reference.space, passes=passes)


def library_of(case: Case, embedding_map: EmbeddingMap) -> LandmarkLibrary:
    """The landmarks of a case that its map shows."""
    view = embedding_map.field_of_view
    shown = {
        name: point
        for name, point in case.points.items()
        if view.contains(point[None])[0] and embedding_map.is_body(point[None])[0]
    }
    return learn_points(LandmarkLibrary(), embedding_map, shown)


Question = tuple[Case, LandmarkLibrary]


def one_shot(cases: list[Case], learned: dict[str, LandmarkLibrary]) -> Iterator[Question]:
    """Each case with the landmarks of each of another patient."""
    for target in cases:
        for support in cases:
            if support.person != target.person:
                yield target, learned[support.id]


def several_shots(cases: list[Case], learned: dict[str, LandmarkLibrary]) -> Iterator[Question]:
    """Each case with the landmarks of all others, and of three drawn of them, as far as two or more know one."""
    draw = np.random.default_rng(1)
    for target in cases:
        others = [case for case in cases if case.person != target.person]
        for chosen in (others, *(draw.choice(len(others), 3, replace=False) for _ in range(6))):
            library = LandmarkLibrary()
            for support in (other if isinstance(other, Case) else others[int(other)] for other in chosen):
                library = library.merged(learned[support.id])
            known = tuple(landmark for landmark in library.landmarks if len(landmark.shots) > 1)
            if known:
                yield target, replace(library, landmarks=known)


def joined(threshold_mm: float, maps: dict[str, EmbeddingMap], questions: Iterator[Question]) -> Answers:
    """All answers to the questions that are found, of landmarks that the target shows, too."""
    features, errors, patients = [], [], []
    for target, library in questions:
        shared = tuple(landmark for landmark in library.landmarks if landmark.name in target.points)
        scan_map = maps[target.id]
        if not shared or not scan_map.space.fits(library.space):
            continue
        queries, located = locate(scan_map, replace(library, landmarks=shared))
        view = scan_map.field_of_view
        for number, query in enumerate(queries):
            position = located.positions[number]
            to_border = min(np.min(position - view.minimum), np.min(view.maximum - position))
            if located.round_trip_mm[number] > threshold_mm or to_border < 0:
                continue
            if lies_beyond(float(located.distances[number]), float(to_border)):
                continue
            features.append(located.signals.features[number])
            errors.append(float(np.linalg.norm(position - target.points[query.name])))
            patients.append(target.person)
    answers = Answers(np.array(features), np.array(errors), np.array(patients))
    return answers.of(np.isfinite(answers.features).all(axis=1))


def fit(answers: Answers) -> Calibration:
    """Weights of what is known, none below 0, and the errors of answers of rising score, which never fall."""
    matrix = np.column_stack([np.ones(len(answers.errors_mm)), answers.features, -np.ones(len(answers.errors_mm))])
    weights = nnls(matrix, np.log1p(answers.errors_mm))[0][1:4]
    scores = answers.features @ weights
    edges = np.quantile(scores, np.linspace(0, 1, BINS + 1))
    group = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, BINS - 1)
    of_groups = [(scores[group == number], answers.errors_mm[group == number]) for number in range(BINS)]
    expected, radius = (
        isotonic_regression([np.quantile(errors, share) for _, errors in of_groups]).x for share in (0.5, 0.9)
    )
    return Calibration(weights, np.array([np.median(inside) for inside, _ in of_groups]), expected, radius)


def report(answers: Answers) -> str:
    """How well the errors are foretold of patients that the table was fitted without."""
    expected, radius = np.empty(len(answers.errors_mm)), np.empty(len(answers.errors_mm))
    for patient in set(answers.patients):
        inside = answers.patients == patient
        calibration = fit(answers.of(~inside))
        told = [calibration.confidence(features) for features in answers.features[inside]]
        expected[inside] = [confidence.expected_error_mm for confidence in told]
        radius[inside] = [confidence.radius_90_mm for confidence in told]
    errors = answers.errors_mm
    covered, differ = 100 * np.mean(errors <= radius), np.median(np.abs(expected - errors))
    return (
        f"{len(errors)} answers, median error {np.median(errors):.1f} mm; of patients left out of the fit, the 90 % "
        f"radius covers {covered:.0f} %, expected and real error differ by {differ:.1f} mm in the median, rank "
        f"correlation {rank_correlation(expected, errors):.2f}"
    )


if __name__ == "__main__":
    main()
