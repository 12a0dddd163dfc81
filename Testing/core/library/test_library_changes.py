"""What stays and what is replaced when libraries grow, are joined or cut down."""

import pytest

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.library.files import (
    from_json,
    library_lock,
    load_library,
    open_library,
    save_library,
    to_json,
)
from APELocalizerLib.core.library.learning import learn_box, learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from made_up.maps import CLICKS, Patient, smooth_map

HEART = Box((-40, -30, -60), (40, 30, 60))


@pytest.fixture(scope="module")
def second():
    return smooth_map(name="second")


def test_a_support_is_found_by_its_id(library, second):
    both = learn_points(library, second, CLICKS)
    assert both.support("fingerprint of second").name == "second"
    assert both.support("fingerprint of support").name == "support"
    with pytest.raises(LibraryError, match='no support scan "third"'):
        both.support("third")


def test_a_new_code_or_description_wins_over_the_old_and_none_over_neither(support_map, second):
    old, new = Code("FMA", "7465", "Carina of trachea"), Code("SCT", "28700002", "Carina")
    first = learn_points(LandmarkLibrary(), support_map, {"c": CLICKS["carina"]}, {"c": old}, {"c": "the fork"})
    again = learn_points(first, second, {"c": CLICKS["carina"]}, {"c": new}, {"c": "where it forks"})
    assert (again.landmark("c").code, again.landmark("c").description) == (new, "where it forks")
    assert len(again.landmark("c").shots) == 2


def test_organs_of_two_libraries_are_joined(support_map, second):
    first = learn_box(LandmarkLibrary(), support_map, "heart", HEART)
    other = learn_box(learn_box(LandmarkLibrary(), second, "heart", HEART), second, "trunk", HEART)
    merged = first.merged(other)
    assert merged.names == ("heart", "trunk") and len(merged.organ("heart").shots) == 2
    assert merged.model_id == first.model_id
    with pytest.raises(LibraryError, match='no organ "carina"'):
        merged.organ("carina")


def test_a_part_of_a_library_keeps_the_supports_that_it_needs(library, second):
    both = learn_box(learn_points(library, second, {"apex": CLICKS["apex"]}), second, "heart", HEART)
    heart = both.subset(["heart"])
    assert heart.names == ("heart",) and [support.name for support in heart.supports] == ["second"]
    assert heart.model_id == both.model_id
    assert both.subset({"apex", "dome"}).names == ("apex", "dome")
    assert both.without("apex").names == ("carina", "dome", "heart")


def test_a_scan_read_anew_replaces_its_support_and_comes_last(library, second):
    both = library.with_support(second)
    again = both.with_support(smooth_map(Patient((1.1, 1, 1)), name="support"))
    assert [support.name for support in again.supports] == ["second", "support"]
    assert again.supports[1].compact_map != both.supports[0].compact_map


def test_a_library_without_supports_means_no_coordinates_yet(library):
    assert LandmarkLibrary().space is None
    assert library.space == library.supports[0].map.space


# Files


def test_a_file_is_opened_by_its_path_and_names_stay_readable_in_it(library, tmp_path):
    umlaut = library.renamed("apex", "Häuptling")
    save_library(umlaut, tmp_path / "mine.json")
    assert open_library(tmp_path / "mine.json") == umlaut == load_library(str(tmp_path / "mine.json"))
    assert "Häuptling" in (tmp_path / "mine.json").read_text(encoding="utf-8")


def test_the_extensions_own_library_is_opened_by_its_name():
    library = open_library("built-in")
    assert "carina" in library.names and len(library.supports) >= 1


def test_an_organs_shot_of_another_model_is_refused(support_map):
    text = to_json(learn_box(LandmarkLibrary(), support_map, "heart", HEART))
    at = text.rindex(f'"checkpoint_id": "{support_map.model_id}"')
    mixed = text[:at] + text[at:].replace(support_map.model_id, "other@abcdefabcdef", 1)
    with pytest.raises(LibraryError, match="mixes landmarks of the models .* and other@abcdefabcdef"):
        from_json(mixed)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(LibraryError, match="no permission to read the library file mine.json"):
        load_library(tmp_path / "mine.json")


def test_a_library_in_a_place_that_is_no_folder_cannot_be_changed(tmp_path):
    (tmp_path / "a file").write_text("x")
    with pytest.raises(LibraryError, match="mine.json cannot be saved .*Check write permission"):
        with library_lock(tmp_path / "a file" / "mine.json"):
            pass


def test_words_in_place_of_numbers_and_numbers_in_place_of_words_are_refused(library):
    text = to_json(library)
    for before, after in (
        (f'"date": "{library.landmarks[0].shots[0].date}"', '"date": 5'),
        ('"description": ""', '"description": 7'),
        ('"name": "support"', '"name": 3'),
    ):
        assert before in text
        with pytest.raises(LibraryError, match="where text is needed"):
            from_json(text.replace(before, after, 1))
