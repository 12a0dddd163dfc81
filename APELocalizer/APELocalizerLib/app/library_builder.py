"""Builds a landmark library from annotated scans: several shots of every landmark and organ, and every organ's α.

α enlarges the found box of an organ until it holds the organ (APE paper, Table 4). It is measured on the supports
themselves, one patient left out at a time: the organ is found on a support with the shots of all other patients, and
α is the smallest enlargement with which the mean recall of the annotated boxes reaches 0.99. Positions are RAS mm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.core.annotations.cases import Case
from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.learning import learn_box, learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.library.terms import Term, check_names
from APELocalizerLib.core.localization.boxes import alpha_for_recall
from APELocalizerLib.core.scan.read import read_scan

RECALL = 0.99
"""Mean part of an organ's box that the enlarged boxes must hold."""

LARGEST = 5.0
"""Where the search for α ends."""

NOT_MEASURED = 1.0
"""α of an organ that fewer than two patients show whole."""

EMBEDDING_SHARE = 0.9
"""Part of the building that embedding takes, for the progress bar."""


@dataclass(frozen=True)
class Enlargement:
    """α of one organ; it was searched on `searched` supports and `found` on so many of them, from which α comes."""

    organ: str
    alpha: float
    found: int
    searched: int


@dataclass(frozen=True)
class BuiltLibrary:
    """A library, how the α of its organs came about, and what had to be left out and why, in sentences."""

    library: LandmarkLibrary
    enlargements: tuple[Enlargement, ...]
    notes: tuple[str, ...]


def build_library(
    supports: Sequence[Case],
    engine: Engine,
    terms: Mapping[str, Term],
    spacing: str = "standard",
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> BuiltLibrary:
    """Library of everything annotated on the supports, each named by its case id and read by the engine.

    Organs that the field of view cuts are left out, since their true extremes cannot be seen. Scans of one patient
    (`Case.person`) are never searched with each other. Raises `LibraryError` for annotated names that `terms` does not
    know (before anything is embedded) and if nothing is annotated, and `Cancelled`.
    """
    points = {name for case in supports for name in case.points}
    check_names(terms, points, {name for case in supports for name in case.boxes})
    maps: dict[str, EmbeddingMap] = {}
    parts: dict[str, LandmarkLibrary] = {}
    notes: list[str] = []
    for number, case in enumerate(supports):
        check_cancelled(cancelled)
        report(progress, EMBEDDING_SHARE * number / len(supports), f"Embedding {case.id}")
        scan = read_scan(case.path)
        notes += scan.warnings
        maps[case.id] = replace(
            engine.map(scan, spacing, cancelled=cancelled), scan_fingerprint=case.id, scan_name=case.id
        )
        parts[case.id], left_out = learn_case(case, maps[case.id])
        notes += left_out
    library = joined(list(parts.values()))
    if not library.entries:
        raise LibraryError("The supports show no annotated landmark and no whole organ, so there is nothing to learn.")
    enlargements = []
    for number, organ in enumerate(library.organs):
        check_cancelled(cancelled)
        done = EMBEDDING_SHARE + (1 - EMBEDDING_SHARE) * number / len(library.organs)
        report(progress, done, f"Measuring the enlargement of {organ.name}")
        enlargements.append(_enlargement(organ.name, supports, maps, parts, engine))
    notes += _remarks(library, terms, enlargements)
    report(progress, 1.0, "Done")
    return BuiltLibrary(_described(library, terms, enlargements), tuple(enlargements), tuple(notes))


def _remarks(library: LandmarkLibrary, terms: Mapping[str, Term], enlargements: Sequence[Enlargement]) -> list[str]:
    """What the user should know about the enlargements and the terms, in sentences."""
    remarks = []
    for organ in enlargements:
        if not organ.found:
            remarks.append(
                f"{organ.organ}: its enlargement could not be measured and is {organ.alpha:g}; "
                "more patients that show it whole are needed."
            )
        elif organ.alpha >= LARGEST:
            remarks.append(f"{organ.organ}: not even an enlargement of {LARGEST:g} gives a mean recall of {RECALL:g}.")
    missing = [name for name in terms if name not in library.names]
    if missing:
        remarks.append(f"Not on these supports: {', '.join(missing)}.")
    return remarks


def learn_case(case: Case, embedding_map: EmbeddingMap) -> tuple[LandmarkLibrary, list[str]]:
    """Library of one support alone, and what was left out of it and why, in sentences."""
    view, notes = embedding_map.field_of_view, []
    inside = {
        name: point
        for name, point in case.points.items()
        if embedding_map.is_body(point[None])[0] and view.contains(point[None])[0]
    }
    outside = [name for name in case.points if name not in inside]
    if outside:
        notes.append(f"{case.id}: {', '.join(outside)} left out, annotated outside the body or the field of view.")
    cut = [name for name in case.boxes if name not in case.whole_boxes]
    if cut:
        notes.append(f"{case.id}: {', '.join(cut)} left out, cut by the field of view.")
    library = learn_points(LandmarkLibrary(), embedding_map, inside) if inside else LandmarkLibrary()
    for name, box in case.whole_boxes.items():
        library = learn_box(library, embedding_map, name, box)
    return library, notes


def joined(libraries: Sequence[LandmarkLibrary]) -> LandmarkLibrary:
    """Everything of all libraries; shots of equally named entries come together."""
    result = LandmarkLibrary()
    for library in libraries:
        result = result.merged(library)
    return result


def _enlargement(
    name: str,
    supports: Sequence[Case],
    maps: Mapping[str, EmbeddingMap],
    parts: Mapping[str, LandmarkLibrary],
    engine: Engine,
) -> Enlargement:
    """α of one organ: found on every support with the shots of the other patients, compared with its annotated box.

    Only found boxes count, since a box that is not found is not shown and cannot be enlarged.
    """
    showing = [case for case in supports if name in parts[case.id].names]
    pairs = []
    searched = 0
    for case in showing:
        others = [parts[other.id].subset([name]) for other in showing if other.person != case.person]
        if not others:
            continue
        searched += 1
        answer = engine.localize(maps[case.id], joined(others)).organs[0]
        if answer.found and answer.raw_box is not None:
            pairs.append((answer.raw_box, case.boxes[name]))
    alpha = alpha_for_recall(pairs, RECALL, LARGEST) if pairs else NOT_MEASURED
    return Enlargement(name, round(alpha, 2), len(pairs), searched)


def _described(
    library: LandmarkLibrary, terms: Mapping[str, Term], enlargements: Sequence[Enlargement]
) -> LandmarkLibrary:
    """The library with codes, descriptions, colors and α, its entries in the order of the terms."""
    alphas = {organ.organ: organ.alpha for organ in enlargements}
    order = list(terms)

    def with_term(entry):
        term = terms[entry.name]
        return replace(entry, code=term.code, description=term.description, color=term.color)

    landmarks = sorted(map(with_term, library.landmarks), key=lambda entry: order.index(entry.name))
    organs = sorted(map(with_term, library.organs), key=lambda entry: order.index(entry.name))
    return replace(
        library,
        landmarks=tuple(landmarks),
        organs=tuple(replace(organ, alpha=alphas[organ.name]) for organ in organs),
    )
