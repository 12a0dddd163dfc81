"""The built-in library is found where the extension keeps it, or its absence is said in words."""

import pytest

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.library import built_in


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    """An empty folder in the place of the extension's own."""
    monkeypatch.setattr(built_in, "LIBRARIES", tmp_path)
    return tmp_path


def test_the_built_in_library_is_found_by_its_name(libraries):
    (libraries / "torso.json").write_text("{}")
    assert built_in.built_in_library_path() == libraries / "torso.json"
    assert built_in.library_file("built-in") == libraries / "torso.json"


def test_without_a_built_in_library_there_is_no_path_and_asking_for_it_is_an_error(libraries):
    assert built_in.built_in_library_path() is None
    with pytest.raises(LibraryError, match="no built-in library"):
        built_in.library_file("built-in")


def test_any_other_name_is_a_file_of_the_user(libraries):
    assert built_in.library_file(libraries / "mine.json") == libraries / "mine.json"


def test_the_extension_comes_with_its_table_of_terms():
    assert built_in.built_in_terms_path().is_file()
