"""Localization: every landmark and organ of a library on one scan, each with a confidence, or "not found".

How a landmark is found: its embeddings, learned on the support scans, are looked up in the scan's map
(`votes.find_by_coordinates`); near the position they point to, the image around the clicks is sought in the scan's
coarse CT (`matching.refine_and_check`); and from the refined position the round trip to the supports is made, which
should end at the clicks. How far off it ends is the round trip in mm: beyond the model's calibrated threshold a
landmark counts as not found. An organ is found by its six extreme points in the same manner (`boxes`).
Positions are RAS world mm.
"""

from dataclasses import dataclass, replace

import numpy as np

from APELocalizerLib.core.base.errors import LocalizationError
from APELocalizerLib.core.base.parallel import parallel_for
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report, sub_progress
from APELocalizerLib.core.embedding.coordinate_space import UNKNOWN_REFERENCE
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.answers import Answers, Localization
from APELocalizerLib.core.localization.matching import can_be_compared, refine_and_check
from APELocalizerLib.core.localization.queries import Query, Shots, queries_of
from APELocalizerLib.core.localization.votes import Located, find_by_coordinates
from APELocalizerLib.core.model.model import DEFAULT_THRESHOLD_MM, Model

NOT_COMPARED = (
    "Image refinement was skipped: the map or the library contains no coarse CT. Positions are less accurate."
)
"""The note when no refinement by the image was possible."""


@dataclass(frozen=True)
class LocalizationSettings:
    """Retrieval rule ("robust" or "paper") and the threshold in mm (None: the model's calibrated one).

    `refine`: move every position to where the scan's image matches the support around the click (see `matching`), if
    map and library hold the scans' coarse CT. Without it positions stay where the embeddings point, as in the paper.

    The paper's rule is the default: on held-out patients the robust one is as exact, and less steady when a scan is
    resampled (see the model card).
    """

    rule: str = "paper"
    round_trip_threshold_mm: float | None = None
    refine: bool = True


def localize(
    embedding_map: EmbeddingMap,
    library: LandmarkLibrary,
    settings: LocalizationSettings | None = None,
    model: Model | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> Localization:
    """Find every landmark and organ of the library on the scan of the map.

    Raises `LocalizationError` if the library is empty, was learned with another model or on scans that were aligned
    with another reference, and `Cancelled`.
    """
    settings = settings or LocalizationSettings()
    check_comparable(embedding_map, library)
    get_ready(library, cancelled)
    by_image = settings.refine and can_be_compared(embedding_map, [support.map for support in library.supports])
    threshold_mm = _threshold_mm(settings, model)
    queries, located = locate(embedding_map, library, settings.rule, by_image, progress, cancelled)
    answers = Answers(
        embedding_map, queries, located, threshold_mm, boxes_of_shots=settings.rule == "paper" and not by_image
    )
    points, organs = tuple(map(answers.point, library.landmarks)), tuple(map(answers.organ, library.organs))

    check_cancelled(cancelled)
    report(progress, 1.0, "Done")
    notes = (*_notes(embedding_map, library), *_refinement_notes(settings.refine, by_image, library))
    space, spacing, name = embedding_map.space, embedding_map.spacing, embedding_map.scan_name
    return Localization(points, organs, space, spacing, name, settings.rule, threshold_mm, notes)


def locate(
    embedding_map: EmbeddingMap,
    library: LandmarkLibrary,
    rule: str = "paper",
    by_image: bool = True,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> tuple[list[Query], Located]:
    """What a library asks for, and where the scan has it, before it is decided what counts as found.

    `by_image`: the positions are refined by the image; the map and a support need a coarse CT.
    """
    supports = [support.map for support in library.supports]
    report(progress, 0.1, "Finding landmarks")
    queries = queries_of(library, inner=by_image)
    share = sub_progress(progress, 0.1, 0.6)
    located = find_by_coordinates(embedding_map, supports, Shots.of(queries), rule, share, cancelled)
    if by_image:
        round_trips = np.array([query.round_trips for query in queries])
        located = _refined(embedding_map, supports, located, round_trips, sub_progress(progress, 0.6, 1.0), cancelled)
    return queries, located


def get_ready(library: LandmarkLibrary, cancelled: CancelCheck | None = None) -> None:
    """Make now, on all cores, what the first localization with the library would make of its supports."""
    maps = [one_map for support in library.supports for one_map in (support.map, *support.map.passes)]
    parallel_for(lambda number: maps[number].get_ready(), len(maps), None, cancelled)


def check_comparable(embedding_map: EmbeddingMap, library: LandmarkLibrary) -> None:
    """Raise `LocalizationError` if nothing can be found on the map with the library."""
    if not library.entries:
        raise LocalizationError("The library is empty. Learn a landmark on a support scan first, or open a library.")
    if library.model_id != embedding_map.model_id:
        raise LocalizationError(
            f"The library was learned with the model {library.model_id}, but the scan was mapped with "
            f"{embedding_map.model_id}. Choose the library's model, or learn the landmarks again."
        )
    space = library.space
    if space is not None and not space.fits(embedding_map.space):
        raise LocalizationError(
            f"The coordinates of the library are {space.in_words()}, those of the scan are "
            f"{embedding_map.space.in_words()}. They cannot be compared: map the scan with the library's reference, "
            "or learn the landmarks again."
        )


def _threshold_mm(settings: LocalizationSettings, model: Model | None) -> float:
    """Round trip beyond which a landmark counts as not found: the one that was set, or the model's."""
    if settings.round_trip_threshold_mm is not None:
        return float(settings.round_trip_threshold_mm)
    return float(model.round_trip_threshold_mm if model else DEFAULT_THRESHOLD_MM)


def _refined(
    embedding_map: EmbeddingMap,
    supports: list[EmbeddingMap],
    located: Located,
    round_trips: np.ndarray,
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> Located:
    """The positions moved to where the image matches, and checked there; see `matching.refine_and_check`."""
    positions, round_trip_mm, signals = refine_and_check(
        embedding_map,
        supports,
        located.shots,
        located.positions,
        located.round_trip_mm,
        round_trips,
        cancelled,
        progress,
    )
    return replace(located, positions=positions, round_trip_mm=round_trip_mm, signals=signals)


def _refinement_notes(wanted: bool, done: bool, library: LandmarkLibrary) -> tuple[str, ...]:
    """Says so when positions could not be refined by the image: they are then less exact."""
    bare = [support.map.scan_name for support in library.supports if support.map.coarse_ct is None]
    if not wanted or (done and not bare):
        return ()
    if not done:
        return (NOT_COMPARED,)
    return (f"The library contains no coarse CT of {', '.join(bare)}. What was learned there only is less accurate.",)


def _notes(embedding_map: EmbeddingMap, library: LandmarkLibrary) -> tuple[str, ...]:
    """What there is to say about the map, and about comparing it with the library."""
    return (
        *embedding_map.notes,
        *_spacing_notes(embedding_map, library),
        *_reference_notes(embedding_map, library),
    )


def _spacing_notes(embedding_map: EmbeddingMap, library: LandmarkLibrary) -> tuple[str, ...]:
    """Says so if supports were mapped at another spacing than the scan: results are then slightly less accurate."""
    others = sorted({support.map.spacing for support in library.supports} - {embedding_map.spacing})
    if not others:
        return ()
    return (f"The scan was mapped at {embedding_map.spacing} spacing, supports of the library at {', '.join(others)}.",)


def _reference_notes(embedding_map: EmbeddingMap, library: LandmarkLibrary) -> tuple[str, ...]:
    """Says so if it is not known whether the coordinates that are compared are aligned with the same reference."""
    references = {embedding_map.space.aligned_with, *(support.space.aligned_with for support in library.supports)}
    if UNKNOWN_REFERENCE not in references or len(references - {None}) < 2:
        return ()
    where = "scan's map" if embedding_map.space.aligned_with == UNKNOWN_REFERENCE else "library"
    return (
        f"The {where} does not say which reference library it was aligned with (an older file). It is assumed to "
        "be the same one.",
    )
