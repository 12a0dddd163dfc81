"""Coordinates that are off as a whole are put right by landmarks that are known from other patients."""

from dataclasses import replace

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import Cancelled, LibraryError, ModelError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedder import Embedder
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.core.library.learning import learn_box, learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization import alignment
from APELocalizerLib.core.localization.alignment import Reference, align, built_in_reference
from APELocalizerLib.core.model.registry import load_model
from made_up.maps import map_of_scan
from made_up.models import MODEL_ID
from made_up.scans import body_phantom, phantom_landmarks

SHAPE, SPACING = (133, 93, 88), (3.0, 3.0, 3.0)
PATIENTS = ({}, {"scale": 1.05, "shift": (6, -4, 5)}, {"scale": 0.95, "shift": (-5, 6, -8)})
OTHER = {"scale": 1.02, "shift": (4.0, 5.0, 9.0)}
TORSO = np.stack(np.meshgrid((-80, 0, 80), (-50, 0, 40), (-90, -40, 0, 50)), -1).reshape(-1, 3).astype(float)
"""Places (n, 3) in the standard torso."""


def clicks(**patient) -> dict[str, np.ndarray]:
    """Landmarks of the phantom that look like nothing else nearby, some more than it names."""
    more = {"right kidney": (62, -55, -100), "bowel gas": (-50, 45, -60), "sternum": (0, 88, 2)}
    move = patient.get("scale", 1.0), np.array(patient.get("shift", (0, 0, 0)), float)
    named = {name: place for name, place in phantom_landmarks(**patient).items() if "apex" not in name}
    return named | {name: np.array(place) * move[0] + move[1] for name, place in more.items()}


def phantom_map(off=lambda true: np.zeros(3), cell=18.0, with_ct=True, **patient) -> EmbeddingMap:
    """The map of a phantom, whose true coordinates are places in the standard torso; they are `off` by so much."""
    scan = body_phantom(SHAPE, SPACING, **patient)
    scale, shift = patient.get("scale", 1), patient.get("shift", 0)

    def embedding(positions):
        true = (positions - shift) / scale
        return true + off(true)

    coarse_ct = CoarseCT.of(scan) if with_ct else None
    return map_of_scan(scan, embedding, cell, scan_fingerprint=str(patient), coarse_ct=coarse_ct)


def stretched(true: np.ndarray) -> np.ndarray:
    """What an odd patient's coordinates are off by: up to 4 cm along the body, and a little across it."""
    return np.stack([5.0 + 0 * true[:, 0], -6.0 + 0.03 * true[:, 2], 22.0 + 0.15 * true[:, 2]], axis=1)


def errors(embedding_map: EmbeddingMap, **patient) -> np.ndarray:
    """How far the coordinates of places in the torso are off, mm."""
    places = TORSO * patient.get("scale", 1) + patient.get("shift", 0)
    return np.linalg.norm(embedding_map.embedding_at(places) - TORSO, axis=1)


def learned(**keywords) -> LandmarkLibrary:
    """All landmarks, clicked on all patients."""
    library = LandmarkLibrary()
    for patient in PATIENTS:
        library = learn_points(library, phantom_map(**patient, **keywords), clicks(**patient))
    return library


@pytest.fixture(scope="module")
def reference():
    return Reference(learned())


@pytest.fixture(scope="module")
def odd():
    return phantom_map(stretched, **OTHER)


def test_the_coordinates_of_an_odd_patient_are_put_right_everywhere(reference, odd):
    before, after = errors(odd, **OTHER), errors(align(odd, reference), **OTHER)
    assert before.mean() > 20
    assert after.mean() < 0.35 * before.mean() and after.max() < before.max() / 2


def test_true_coordinates_stay_true(reference):
    assert errors(align(phantom_map(**OTHER), reference), **OTHER).mean() < 5


def test_all_passes_and_their_mean_are_aligned(reference, odd):
    coarse = replace(phantom_map(stretched, 30.0, with_ct=False, **OTHER), spacing=odd.spacing)
    both = mean_of_passes([coarse, odd.with_coarse_ct(None)]).with_coarse_ct(odd.coarse_ct)
    aligned = align(both, reference)
    assert aligned.coarse_ct is odd.coarse_ct and len(aligned.passes) == 2
    assert not odd.space.aligned
    for one_map in (aligned, *aligned.passes):
        assert one_map.space.aligned
        assert errors(one_map, **OTHER).mean() < 0.4 * errors(odd, **OTHER).mean()
    middle = np.array([OTHER["shift"]])
    mean = np.mean([one_map.embedding_at(middle) for one_map in aligned.passes], axis=0)
    assert np.abs(aligned.embedding_at(middle) - mean).max() < 1.5


@pytest.mark.parametrize("wrong", [40.0, 60.0, 80.0])
def test_mistaken_landmarks_are_outvoted(wrong, reference, odd):
    """Two of nine, whose coordinates on the supports are wrong."""

    def misled(landmark):
        shots = [replace(shot, embedding=np.array(shot.embedding) + (0, 0, wrong)) for shot in landmark.shots]
        return replace(landmark, shots=tuple(shots)) if landmark.name in ("carina", "bowel gas") else landmark

    library = replace(reference.library, landmarks=tuple(map(misled, reference.library.landmarks)))
    assert errors(align(odd, Reference(library)), **OTHER).mean() < 0.6 * errors(odd, **OTHER).mean()


def test_where_too_few_landmarks_are_in_view_nothing_changes(reference, odd):
    low, high = np.array(odd.field_of_view.minimum), np.array(odd.field_of_view.maximum)
    low[2] = high[2] - 40.0
    top = replace(odd, field_of_view=Box(tuple(low), tuple(high)))
    assert align(top, reference) is top


def test_a_map_without_a_coarse_ct_stays_as_it_is(reference, odd):
    bare = odd.with_coarse_ct(None)
    assert align(bare, reference) is bare


def test_supports_without_a_coarse_ct_are_passed_over(reference, odd):
    bare = replace(reference.library.supports[0], coarse_ct="")
    library = replace(reference.library, supports=(bare, *reference.library.supports[1:]))
    assert errors(align(odd, Reference(library)), **OTHER).mean() < 0.4 * errors(odd, **OTHER).mean()


def test_a_library_that_cannot_be_compared_is_refused(odd):
    boxes = learn_box(LandmarkLibrary(), odd, "liver", Box((20.0, -40.0, -70.0), (100.0, 50.0, -20.0)))
    few = learned().subset(["carina", "heart", "liver"])
    for library, count in ((boxes, 0), (learned(with_ct=False), 0), (few, 3), (LandmarkLibrary(), 0)):
        reference = Reference(library)
        reference.get_ready()
        assert align(odd, reference) is odd
        with pytest.raises(LibraryError, match=f"4 landmarks with a coarse CT; this one holds {count}"):
            reference.check()


def test_alignment_can_be_cancelled(reference, odd):
    with pytest.raises(Cancelled):
        align(odd, reference, cancelled=lambda: True)


def test_the_built_in_library_is_the_reference_of_the_default_model_alone():
    model = load_model("default")
    assert len(built_in_reference(model.id).library.landmarks) >= 20
    assert built_in_reference("another@0123456789ab") is None


def test_without_a_built_in_library_there_is_no_reference(monkeypatch):
    monkeypatch.setattr(alignment, "built_in_library_path", lambda: None)
    assert built_in_reference(load_model("default").id) is None


def test_the_reference_of_another_model_is_refused(reference):
    with pytest.raises(ModelError, match="cannot be aligned"):
        Embedder(load_model("default"), reference=reference)


def test_a_map_names_what_it_is_aligned_with(reference, odd):
    aligned = align(odd, reference)
    assert aligned.space == CoordinateSpace(MODEL_ID, reference.digest)
    renamed = Reference(reference.library.renamed("carina", "tracheal bifurcation"))
    assert align(odd, renamed).space == aligned.space, "the same coordinates, whatever landmarks are called"
    fewer = Reference(reference.library.without("carina"))
    assert align(odd, fewer).space != aligned.space


def test_a_library_learned_on_aligned_scans_passes_their_reference_on(reference, odd):
    """So one's own library can be grown with itself as the reference, and what was learned first still counts."""
    grown = learn_points(reference.library, align(odd, reference), clicks(**OTHER))
    assert Reference(grown).digest != reference.digest
    assert align(odd, Reference(grown)).space == grown.space == align(odd, reference).space
