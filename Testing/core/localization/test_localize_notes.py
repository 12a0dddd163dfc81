"""What a localization says beside its answers, and the settings it works with."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import LocalizationError
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.localization.localize import NOT_COMPARED, LocalizationSettings, get_ready, localize, locate
from APELocalizerLib.core.localization.votes import RULES
from APELocalizerLib.core.model.model import DEFAULT_THRESHOLD_MM
from made_up.maps import CLICKS, Patient, library_of, smooth_map
from made_up.models import MODEL_ID, tiny_model


def coarse_ct(seed=0) -> CoarseCT:
    codes = np.random.default_rng(seed).integers(0, 256, (34, 38, 60), dtype=np.uint8)
    grid = np.diag([5.0, 5.0, 5.0, 1.0])
    grid[:3, 3] = -82.5, -92.5, -147.5
    return CoarseCT(codes, grid)


@pytest.fixture(scope="module")
def seen():
    """The support with a coarse CT, and a library learned on it."""
    one_map = smooth_map(name="support").with_coarse_ct(coarse_ct())
    return one_map, library_of((Patient(), one_map))


def notes(scan: EmbeddingMap, library, **settings) -> tuple[str, ...]:
    return localize(scan, library, LocalizationSettings(**settings)).notes


def test_nothing_is_said_where_everything_could_be_compared(seen):
    assert notes(*seen) == ()


def test_refinement_that_was_not_possible_is_said_unless_it_was_not_wanted(seen):
    one_map, library = seen
    bare = one_map.with_coarse_ct(None)
    assert notes(bare, library) == (NOT_COMPARED,)
    assert notes(bare, library, refine=False) == ()
    assert notes(one_map, library_of((Patient(), bare))) == (NOT_COMPARED,)


def test_supports_without_a_coarse_ct_are_named(seen):
    one_map, library = seen
    for name in ("second", "third"):
        library = library.merged(library_of((Patient(), smooth_map(name=name))))
    (note,) = notes(one_map, library)
    assert note.startswith("The library contains no coarse CT of second, third.")
    assert notes(one_map, library, refine=False) == ()


def test_supports_mapped_at_another_spacing_are_said_with_it(seen):
    one_map, library = seen
    for spacing in ("fine", "fast"):
        other = dataclasses.replace(one_map, spacing=spacing, scan_fingerprint=spacing)
        library = library.merged(library_of((Patient(), other)))
    (note,) = notes(one_map, library)
    assert note == "The scan was mapped at standard spacing, supports of the library at fast, fine."
    assert len(notes(dataclasses.replace(one_map, spacing="fast"), seen[1])) == 1


def test_a_scan_that_could_not_be_aligned_is_compared_without_a_word(seen):
    one_map, _ = seen
    aligned = dataclasses.replace(one_map, space=CoordinateSpace(MODEL_ID, "a"))
    assert notes(one_map, library_of((Patient(), aligned))) == ()


# Settings


def test_the_papers_rule_and_the_image_are_the_default(seen):
    assert LocalizationSettings() == LocalizationSettings("paper", None, True)
    result = localize(*seen)
    assert result.rule == "paper" and result == localize(*seen, LocalizationSettings("paper"))


def test_without_a_model_the_usual_threshold_holds_and_zero_is_a_threshold(seen):
    assert localize(*seen).threshold_mm == DEFAULT_THRESHOLD_MM
    strict = localize(*seen, LocalizationSettings(round_trip_threshold_mm=0), tiny_model())
    assert strict.threshold_mm == 0.0 and not any(point.found for point in strict.points if point.round_trip_mm > 0)


def test_by_the_image_positions_inside_organs_are_looked_up_too(seen):
    from APELocalizerLib.core.base.geometry import Box
    from APELocalizerLib.core.library.learning import learn_box

    one_map, library = seen
    library = learn_box(library, one_map, "liver", Box((-40, -30, -60), (50, 30, 40)))
    for by_image, count in ((True, 3 + 6 + 9), (False, 3 + 6)):
        queries, located = locate(one_map, library, by_image=by_image)
        assert len(queries) == len(located.positions) == count
        assert (located.signals is not None) is by_image
    assert len(locate(one_map, library)[0]) == 18 and locate(one_map, library)[1].signals is not None


@pytest.mark.parametrize("rule", RULES)
def test_on_the_support_itself_the_image_agrees_with_the_coordinates(seen, rule):
    """The image is noise that is the same in both: it pulls to the click itself."""
    one_map, library = seen
    result = localize(one_map, library, LocalizationSettings(rule))
    for point in result.points:
        assert point.found and np.linalg.norm(point.position_ras - CLICKS[point.name]) < 1.0
        assert point.round_trip_mm < 1.0


def test_getting_ready_changes_nothing_and_can_be_cancelled(seen):
    from APELocalizerLib.core.base.errors import Cancelled

    one_map, library = seen
    before = localize(one_map, library)
    get_ready(library)
    assert localize(one_map, library) == before
    with pytest.raises(Cancelled):
        get_ready(library, lambda: True)


def test_an_unknown_rule_is_refused_before_anything_is_looked_up(seen):
    with pytest.raises(LocalizationError, match='no retrieval rule "mean".*robust, paper'):
        localize(*seen, LocalizationSettings("mean"))
