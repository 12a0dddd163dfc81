"""A scan that shows the head, too, gives the same answers as its trunk alone, and says what was left out."""

import numpy as np
import pytest

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.embedding.map_files import load_map, save_map
from APELocalizerLib.core.library.files import open_library
from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.scan.read import read_scan
from made_up.paths import SAMPLES
from made_up.whole_bodies import with_head

MOST_APART_MM = 15.0


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def trunk():
    return read_scan(SAMPLES / "support_ct.nii.gz")


@pytest.fixture(scope="module")
def whole(trunk):
    return with_head(trunk)


def test_landmarks_are_found_where_they_are_found_without_the_head(engine, trunk, whole):
    library = open_library("built-in")
    alone = {point.name: point for point in engine.localize(trunk, library).points if point.found}
    localization = engine.localize(whole, library)
    with_the_head = {point.name: point for point in localization.points}
    assert len(alone) > 12
    for name, point in alone.items():
        other = with_the_head[name]
        assert other.found and np.linalg.norm(np.subtract(other.position_ras, point.position_ras)) < MOST_APART_MM, name
    assert any("neck and head" in note for note in localization.notes)


def test_the_map_knows_what_was_left_out_and_keeps_it_in_its_file(engine, trunk, whole, tmp_path):
    embedding_map = engine.map(whole)
    above, below = embedding_map.left_out_mm
    assert above == pytest.approx(whole.bounds().maximum[2] - embedding_map.field_of_view.maximum[2]) and below == 0
    assert embedding_map.scan_fingerprint == whole.fingerprint
    save_map(embedding_map, tmp_path / "map.nrrd")
    assert load_map(tmp_path / "map.nrrd").left_out_mm == pytest.approx((above, below))
    assert engine.map(trunk).left_out_mm == (0.0, 0.0)


def test_a_click_in_the_head_is_refused_in_words(engine, whole):
    in_the_head = whole.bounds().center
    in_the_head[2] = whole.bounds().maximum[2] - 60.0
    with pytest.raises(LearningError, match="the neck, the head or the legs"):
        learn_points(LandmarkLibrary(), engine.map(whole), {"left eye": in_the_head})
