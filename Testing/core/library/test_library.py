"""Libraries: consistent, immutable, and changed only into new ones."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.library.entries import Code, Landmark, Organ, OrganShot, Shot
from APELocalizerLib.core.library.files import to_json
from APELocalizerLib.core.library.learning import learn_points, learn_six_points
from APELocalizerLib.core.library.library import LandmarkLibrary, Support
from made_up.maps import CLICKS, Patient, library_of, smooth_map
from made_up.models import MODEL_ID

SIX = tuple((float(n), 0.0, 0.0) for n in range(6))


def shot(support: str = "s", **changes) -> Shot:
    values = {"support_id": support, "position_ras": (1, 2, 3), "embedding": (4, 5, 6), "date": "2026-01-02"}
    return Shot(**{**values, **changes})


@pytest.fixture
def organ_library(library, support_map):
    points = np.array([[-40, 0, 0], [40, 0, 0], [0, -30, 0], [0, 30, 0], [0, 0, -60], [0, 0, 60]], float)
    return learn_six_points(library, support_map, "liver", points, Code("SCT", "10200004", "Liver"))


def test_a_new_library_is_empty_and_belongs_to_no_model():
    library = LandmarkLibrary()
    assert library.model_id is None and library.names == () and library.supports == ()


def test_everything_learned_is_found_by_name(organ_library):
    assert organ_library.names == ("carina", "apex", "dome", "liver")
    assert organ_library.landmark("apex").shots[0].position_ras == tuple(CLICKS["apex"])
    assert organ_library.organ("liver").code.value == "10200004"
    with pytest.raises(LibraryError, match='no landmark "spleen"'):
        organ_library.landmark("spleen")
    with pytest.raises(LibraryError, match='no landmark "liver"'):
        organ_library.landmark("liver")


def test_changes_leave_the_old_library_alone(organ_library, support_map):
    """Undo is keeping the old library."""
    before = to_json(organ_library)
    organ_library.renamed("apex", "lung apex")
    organ_library.without("liver")
    learn_points(organ_library, support_map, {"new": CLICKS["apex"], "carina": CLICKS["apex"]})
    organ_library.merged(library_of((Patient(), smooth_map(name="second"))))
    assert to_json(organ_library) == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        organ_library.landmarks = ()


def test_rename(organ_library):
    renamed = organ_library.renamed("apex", "lung apex").renamed("liver", "Leber")
    assert renamed.names == ("carina", "lung apex", "dome", "Leber")
    assert renamed.landmark("lung apex").shots == organ_library.landmark("apex").shots
    with pytest.raises(LibraryError, match='"carina" occurs twice'):
        organ_library.renamed("liver", "carina")
    with pytest.raises(LibraryError, match='no landmark or organ "heart"'):
        organ_library.renamed("heart", "cor")
    with pytest.raises(LibraryError, match="needs a name"):
        organ_library.renamed("apex", "  ")


def test_delete_also_drops_supports_that_nothing_needs(organ_library):
    second = smooth_map(name="second")
    both = learn_points(organ_library, second, {"only there": CLICKS["dome"]})
    assert len(both.supports) == 2
    assert [s.name for s in both.without("only there").supports] == ["support"]
    emptied = both.subset([])
    assert emptied == LandmarkLibrary(), "an emptied library is as good as new, and takes any model"
    with pytest.raises(LibraryError, match="no landmark or organ"):
        organ_library.without("heart")


def test_a_second_support_adds_a_shot_and_the_same_support_replaces_it(library, support_map):
    patient = Patient((1.05, 1, 1))
    two = learn_points(library, smooth_map(patient, name="second"), {"apex": patient.place(CLICKS["apex"][None])[0]})
    assert [s.support_id for s in two.landmark("apex").shots] == ["fingerprint of support", "fingerprint of second"]
    again = learn_points(two, support_map, {"apex": CLICKS["apex"] + 2.0})
    shots = {s.support_id: s for s in again.landmark("apex").shots}
    assert len(shots) == 2 and len(again.supports) == 2
    np.testing.assert_allclose(shots["fingerprint of support"].position_ras, CLICKS["apex"] + 2.0)


def test_learning_again_keeps_code_and_description(support_map):
    code = Code("FMA", "7465", "Carina of trachea")
    first = learn_points(LandmarkLibrary(), support_map, {"c": CLICKS["carina"]}, {"c": code}, {"c": "the fork"})
    second = learn_points(first, smooth_map(name="second"), {"c": CLICKS["carina"]})
    assert second.landmark("c").code == code and second.landmark("c").description == "the fork"


def test_merge_joins_shots_and_supports(library):
    other = library_of((Patient(), smooth_map(name="second"))).renamed("dome", "other dome")
    merged = library.merged(other)
    assert merged.names == ("carina", "apex", "dome", "other dome")
    assert len(merged.landmark("carina").shots) == 2 and len(merged.landmark("dome").shots) == 1
    assert [s.name for s in merged.supports] == ["support", "second"]
    assert library.merged(library) == library
    assert LandmarkLibrary().merged(library) == library
    assert library.merged(LandmarkLibrary()) == library


def test_models_cannot_be_mixed(library):
    foreign = smooth_map(model_id="other@abcdefabcdef", name="foreign")
    with pytest.raises(LibraryError, match="made-up@0123456789ab.*other@abcdefabcdef.*cannot be compared"):
        learn_points(library, foreign, {"carina": CLICKS["carina"]})
    with pytest.raises(LibraryError, match="cannot be compared"):
        library.merged(library_of((Patient(), foreign)))


def test_a_landmark_and_an_organ_cannot_share_a_name(organ_library, support_map):
    with pytest.raises(LibraryError, match="already an organ"):
        learn_points(organ_library, support_map, {"liver": CLICKS["dome"]})
    with pytest.raises(LibraryError, match="already a landmark"):
        organ_library.with_organ(Organ("apex", organ_library.organ("liver").shots))
    with pytest.raises(LibraryError, match="occurs twice"):
        LandmarkLibrary("m", (Landmark("x", (shot(),)),), (Organ("x", (OrganShot("s", SIX, SIX, ""),)),))


def test_inconsistent_libraries_are_refused(support_map):
    landmark = Landmark("x", (shot("nowhere"),))
    with pytest.raises(LibraryError, match='refers to the support scan "nowhere"'):
        LandmarkLibrary("m", (landmark,))
    with pytest.raises(LibraryError, match="must name the model"):
        LandmarkLibrary(None, (landmark,))
    support = Support.of(support_map)
    with pytest.raises(LibraryError, match="occurs twice"):
        LandmarkLibrary("m", supports=(support, support))
    with pytest.raises(LibraryError, match="occurs twice"):
        Landmark("x", (shot(), shot()))
    with pytest.raises(LibraryError, match="not learned on any support"):
        Landmark("x", ())


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: shot(position_ras=(1, 2, float("nan"))), "three finite numbers"),
        (lambda: shot(embedding=(1, 2)), "three finite numbers"),
        (lambda: shot(embedding="abc"), "three numbers"),
        (lambda: shot(position_ras=None), "three numbers"),
        (lambda: OrganShot("s", SIX[:5], SIX, ""), "six extreme points, but 5"),
        (lambda: Landmark("x", (shot(),), color=(1, float("inf"), 0)), "finite"),
        (lambda: Organ("x", (OrganShot("s", SIX, SIX, ""),), alpha=float("nan")), "between 0.5 and 10"),
        (lambda: Organ("x", (OrganShot("s", SIX, SIX, ""),), alpha=99.0), "between 0.5 and 10"),
        (lambda: Code("ICD", "1", "x"), "SNOMED CT"),
    ],
)
def test_values_that_are_no_values_are_refused(make, sentence):
    with pytest.raises(LibraryError, match=sentence):
        make()


def aligned_with(reference: str | None, name: str):
    return dataclasses.replace(smooth_map(name=name), space=CoordinateSpace(MODEL_ID, reference))


def test_landmarks_of_scans_aligned_with_two_references_cannot_be_mixed():
    """Their coordinates may differ by centimeters, and nothing in the numbers shows it."""
    first, second = (library_of((Patient(), aligned_with(reference, reference))) for reference in "ab")
    with pytest.raises(LibraryError, match="aligned with the reference library a, .* reference library b"):
        learn_points(first, aligned_with("b", "third"), CLICKS)
    with pytest.raises(LibraryError, match="cannot be compared"):
        first.merged(second)


def test_scans_that_could_not_be_aligned_go_with_those_that_were():
    """Where too few landmarks are in view, a scan stays unaligned; it can still be learned from."""
    library = library_of((Patient(), aligned_with(None, "hand")), (Patient(), aligned_with("a", "torso")))
    assert library.space == CoordinateSpace(MODEL_ID, "a")
    assert library.merged(library_of((Patient(), aligned_with("a", "another")))).space == library.space
    with pytest.raises(LibraryError):
        library.with_support(aligned_with("b", "hand"))  # its landmarks would keep the embeddings of the other


def test_merging_keeps_the_coarse_ct_of_either_library(library):
    """Whichever of two libraries holds a support's coarse CT: without it, positions would be less exact."""
    with_ct = replace(library.supports[0], coarse_ct="the coarse CT")
    with_ct.__dict__["space"] = library.space  # the text above is not meant to be unpacked
    bare, full = library, replace(library, supports=(with_ct,))
    assert not bare.supports[0].coarse_ct
    assert [merged.supports[0].coarse_ct for merged in (bare.merged(full), full.merged(bare))] == ["the coarse CT"] * 2
