"""The table of terms is read as it was meant, or the line is named that is wrong."""

import pytest

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.library.terms import Term, check_names, read_terms

HEADER = "name,kind,scheme,value,meaning,description,color\n"
CARINA = 'carina,landmark,SCT,28700002,Carina,"Where the trachea forks, below.",#00ff33\n'
LIVER = "liver,organ,,,,,#FF8000\n"


@pytest.fixture
def table(tmp_path):
    def write(*rows: str):
        path = tmp_path / "terms.csv"
        path.write_text(HEADER + "".join(rows), encoding="utf-8")
        return path

    return write


def test_a_term_has_code_description_and_color(table):
    terms = read_terms(table(CARINA, LIVER))
    assert list(terms) == ["carina", "liver"]
    assert terms["carina"] == Term(
        "carina", "landmark", Code("SCT", "28700002", "Carina"), "Where the trachea forks, below.", (0.0, 1.0, 0.2)
    )
    assert terms["liver"] == Term("liver", "organ", None, "", (1.0, 0.502, 0.0)), "128 of 255, to four decimals"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (",organ,,,,,#ff8000\n", "line 3: There is no name"),
        ("x,bone,,,,,#ff8000\n", 'line 3: "x" must be a landmark or an organ, not "bone"'),
        ("x,organ,SCT,,,,#ff8000\n", "needs scheme, value and meaning, or none"),
        ("x,organ,,1,X,,#ff8000\n", "needs scheme, value and meaning, or none"),
        ("x,organ,ICD,1,X,,#ff8000\n", "line 3: .*SNOMED"),
        ("x,organ,,,,,red\n", 'must look like #ff8000, not "red"'),
        ("x,organ,,,,,#ff80000\n", "must look like #ff8000"),
        ("carina,organ,,,,,#ff8000\n", 'line 3: "carina" occurs twice'),
    ],
)
def test_a_wrong_line_is_named(table, row, sentence):
    with pytest.raises(LibraryError, match=f"terms.csv, {sentence}" if sentence.startswith("line") else sentence):
        read_terms(table(CARINA, row))


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LibraryError, match="table of terms cannot be read: .*terms.csv does not exist"):
        read_terms(tmp_path / "terms.csv")


def test_names_that_were_annotated_must_be_in_the_table_as_the_same_kind(table):
    terms = read_terms(table(CARINA, LIVER))
    check_names(terms, {"carina"}, {"liver"})
    check_names(terms, set(), set())
    with pytest.raises(LibraryError, match="does not know the landmark apex, hip[.]"):
        check_names(terms, {"hip", "carina", "apex"}, {"liver"})
    with pytest.raises(LibraryError, match="does not know the organ spleen"):
        check_names(terms, {"carina"}, {"spleen"})
    with pytest.raises(LibraryError, match='"liver" is annotated as landmark, but the table of terms calls it organ'):
        check_names(terms, {"carina", "liver"}, set())
    with pytest.raises(LibraryError, match='"carina" is annotated as organ'):
        check_names(terms, set(), {"carina"})
