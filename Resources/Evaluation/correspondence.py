"""Measure how far off correspondences are, beside single answers and affine registration, and write the page.

    python Resources/Evaluation/correspondence.py DATA --study Resources/Evaluation/study.json

DATA is a folder of annotated scans as for `ape-localizer evaluate`. Landmarks of a support are carried to a target of
another patient, for pairs drawn at random: with the whole scans, and after both were cut along the body so that they
share 30 % of the shorter one's length. Where to cut is told by the landmarks, not by any of the methods.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from APELocalizerLib import Engine, read_scan
from APELocalizerLib.core.annotations.cases import Case, chosen
from APELocalizerLib.core.annotations.folder import read_data_folder
from APELocalizerLib.core.base.errors import APELocalizerError
from APELocalizerLib.core.localization.correspondence import RADIUS
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.evaluation.annotated_cases import annotated_case
from APELocalizerLib.evaluation.crops import crop_superior_inferior
from APELocalizerLib.evaluation.markdown_tables import figure, table
from APELocalizerLib.evaluation.metrics import rank_correlation, summary
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.study_file import read_study_file
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place
from APELocalizerLib.methods.ape import ApeSettings, make_ape
from APELocalizerLib.methods.correspondence import CorrespondenceMethod
from APELocalizerLib.methods.method import ANSWER, PAIR, Method
from APELocalizerLib.methods.registration import Affine, register_affine

PAGE = Path(__file__).with_suffix(".md")
FAILED_MM = 120.0
"""An error beyond this is called a failure: the wrong part of the body."""

SHARED, SHORTEST_MM, BEYOND_MM = 0.3, 100.0, 40.0
"""Share of the shorter scan's length that cut scans have in common; the shortest cut scan; and how far outside a
landmark must lie to be surely out of view."""

WHOLE, CUT = "whole scans", "30 % in common"


class UsualAffine(Affine):
    """Affine registration from SimpleITK's usual start: the middles of both scans."""

    name = "affine, usual start"

    def _register(self, support_id: str, target_id: str) -> tuple[sitk.Transform, float]:
        start = time.perf_counter()
        pair = self._scans[support_id][0], self._scans[target_id][0]
        middle = sitk.CenteredTransformInitializer(
            *pair, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
        )
        transform = register_affine(*pair, sitk.AffineTransform(middle))
        return transform, time.perf_counter() - start


@dataclass
class Measured:
    """Of one method under one condition: errors and expected errors in mm of landmarks in view that were answered, how
    many were not answered, and of those out of view, whether that was said."""

    errors: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    missed: int = 0
    refused: list[bool] = field(default_factory=list)


def main() -> int:
    """Measure, print and write."""
    arguments = _parser().parse_args()
    names = read_study_file(arguments.study) if arguments.study else {}
    cases = {case.id: case for case in read_data_folder(arguments.data).values()}
    pairs = drawn_pairs(chosen(cases, names.get("supports")), chosen(cases, names.get("targets")), arguments.pairs)
    engine = Engine()
    ape = make_ape("single answers", ApeSettings(engine), arguments.cache)
    methods: list[Method] = [CorrespondenceMethod(ape), ape, Affine(arguments.cache), UsualAffine(arguments.cache)]
    results = {(condition, method.name): Measured() for condition in (WHOLE, CUT) for method in methods}
    shared = dict.fromkeys((WHOLE, CUT), 0)
    for number, (support, target) in enumerate(pairs, start=1):
        print(f"{number} of {len(pairs)}: {support.id} to {target.id}", file=sys.stderr, flush=True)
        for condition, scans in conditions(support, target):
            shared[condition] += 1
            ids = [f"{case.id} {condition}{number if condition == CUT else ''}" for case in (support, target)]
            for method in methods:
                measure(method, (support, target), scans, ids, results[condition, method.name])
    text = page(arguments, engine, results, methods, shared)
    print(text)
    arguments.out.write_text(text, encoding="utf-8")
    return 0


def drawn_pairs(supports: Sequence[Case], targets: Sequence[Case], count: int) -> list[tuple[Case, Case]]:
    """Pairs of support and target of different patients with at least eight landmarks in common, drawn at random."""
    pairs = [
        (support, target)
        for target in targets
        for support in supports
        if support.person != target.person and len(set(support.points) & set(target.points)) >= 8
    ]
    order = np.random.default_rng(0).permutation(len(pairs))[:count]
    return [pairs[number] for number in order]


def conditions(support: Case, target: Case) -> Iterable[tuple[str, tuple[Scan, Scan]]]:
    """Both scans whole, and cut so that they share 30 %, if enough is left."""
    whole = read_scan(support.path), read_scan(target.path)
    yield WHOLE, whole
    names = sorted(set(support.points) & set(target.points))
    heights = np.array([(support.points[name][2], target.points[name][2]) for name in names])
    apart = (heights[:, None] - heights)[np.triu_indices(len(heights), 1)]
    apart = apart[np.abs(apart[:, 0]) > 30]
    slope = float(np.clip(np.median(apart[:, 1] / apart[:, 0]), 0.8, 1.25)) if len(apart) else 1.0
    offset = float(np.median(heights[:, 1] - slope * heights[:, 0]))
    low, high = (np.array([scan.bounds().minimum[2], scan.bounds().maximum[2]]) for scan in whole)
    on_support = (high - offset) / slope  # the target's ends, where they would lie on the support
    middle = (max(low[0], on_support[0]) + min(low[1], on_support[1])) / 2
    lengths = middle - low[0], on_support[1] - middle
    half = SHARED * min(lengths) / (2 - SHARED)
    cuts = (low[0], middle + half), (slope * (middle - half) + offset, high[1])
    if half > 0 and min(end - start for start, end in cuts) >= SHORTEST_MM:
        try:
            lower, upper = (crop_superior_inferior(scan, *cut) for scan, cut in zip(whole, cuts, strict=True))
        except APELocalizerError:
            return
        yield CUT, (lower, upper)


def measure(
    method: Method, pair: tuple[Case, Case], scans: tuple[Scan, Scan], ids: Sequence[str], measured: Measured
) -> None:
    """Carry the landmarks that the support's scan shows, and compare them with the target's."""
    shown = []
    for case, scan, scan_id in zip(pair, scans, ids, strict=True):
        try:
            method.prepare(scan_id, scan)
        except APELocalizerError as error:
            print(f"  {scan_id}: {error}", file=sys.stderr)
            return
        shown.append(named(annotated_case(case, scan, Protocol(), organs=()), scan_id, scan))
    support, target = shown
    learned = method.learn(support)
    truth = {Place("landmark", "point", name): point for name, point in pair[1].points.items()}
    places = [place for place in learned if place in truth]
    answers = method.find(target.id, [support], places) if places else {}
    view = scans[1].bounds()
    for place, answer in answers.items():
        inside = bool(view.contains(truth[place][None])[0])
        if inside and answer.found is False:
            measured.missed += 1
        elif inside:
            measured.errors.append(float(np.linalg.norm(answer.positions[0] - truth[place])))
            measured.expected.append(answer.round_trip_mm)
        elif not view.contains(truth[place][None], margin=BEYOND_MM)[0]:
            measured.refused.append(answer.found is False)


def named(case: AnnotatedCase, scan_id: str, scan: Scan) -> AnnotatedCase:
    """The case under the name of its scan, with the landmarks that the scan shows."""
    view = scan.bounds()
    places = {
        place: points
        for place, points in case.places.items()
        if place.kind == "landmark" and view.contains(points).all()
    }
    return replace(case, id=scan_id, places=places)


def page(
    arguments: argparse.Namespace,
    engine: Engine,
    results: dict[tuple[str, str], Measured],
    methods: Sequence[Method],
    shared: dict[str, int],
) -> str:
    """The page in Markdown."""
    lines = [
        "# Correspondence, measured", "",
        f"Landmarks carried from one scan to another patient's, model {engine.model.id}. Made by "
        f"`python Resources/Evaluation/correspondence.py DATA --study Resources/Evaluation/study.json "
        f"--pairs {arguments.pairs}`; how, and what *single answers* and *affine* are, is in the "
        "[README](README.md). Errors are in mm.", "",
    ]  # fmt: skip
    header = [
        *("method", "answered", "mean ± standard deviation (median)", "90 %", "beyond 12 cm"),
        *("in view, not answered", "out of view, not answered"),
    ]
    for condition in (WHOLE, CUT):
        rows = [row(method.name, results[condition, method.name]) for method in methods]
        lines += [f"## {condition.capitalize()}: {shared[condition]} pairs", "", *table(header, rows), ""]
    lines += ["## Expected errors", "", expected_errors(results), "", "## Times", "", times(methods), ""]
    return "\n".join(lines)


def row(name: str, measured: Measured) -> list[str]:
    """One method's row."""
    figures, errors = summary(np.array(measured.errors)), np.array(measured.errors)
    failures = f"{100 * float((errors > FAILED_MM).mean()):.0f} %" if len(errors) else "–"
    refused = f"{sum(measured.refused)} of {len(measured.refused)}" if measured.refused else "–"
    missed = f"{measured.missed} of {measured.missed + figures.count}"
    return [name, str(figures.count), figure(figures), f"{figures.p90:.1f}", failures, missed, refused]


def expected_errors(results: dict[tuple[str, str], Measured]) -> str:
    """How well the expected errors of correspondences rank and match the true ones."""
    sentences = []
    for condition in (WHOLE, CUT):
        measured = results[condition, CorrespondenceMethod.name]
        expected, errors = np.array(measured.expected), np.array(measured.errors)
        if len(errors):
            sentences.append(
                f"{condition.capitalize()}: {100 * float((errors < expected).mean()):.0f} % of the errors are below "
                f"the expected error (50 % should be), {100 * float((errors < RADIUS * expected).mean()):.0f} % within "
                f"the 90 % radius, rank correlation {rank_correlation(expected, errors):.2f}."
            )
    return " ".join(sentences)


def times(methods: Sequence[Method]) -> str:
    """Seconds per pair, with scans read and embedded before."""
    parts = [
        f"{method.name} {method.clock.mean(PAIR):.1f} s" for method in methods if np.isfinite(method.clock.mean(PAIR))
    ]
    single = next(method.clock.mean(ANSWER) for method in methods if np.isfinite(method.clock.mean(ANSWER)))
    where = "Per pair of scans, embedded before, on the machine that made this page, which may have been busy"
    return f"{where}: {', '.join(parts)}; {1000 * single:.0f} ms per single answer. `make bench` measures alone."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--study", type=Path, help="names the targets and supports")
    parser.add_argument("--pairs", type=int, default=16, help="pairs of scans (default: 16)")
    parser.add_argument("--cache", type=Path, help="keep maps and registrations here for the next time")
    parser.add_argument("--out", type=Path, default=PAGE)
    return parser


if __name__ == "__main__":
    sys.exit(main())
