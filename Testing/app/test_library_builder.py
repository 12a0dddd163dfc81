"""Building a library from annotated scans of made-up patients, whose embedding is their position times their size."""

from types import SimpleNamespace

import numpy as np
import pytest

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.app.library_builder import build_library
from APELocalizerLib.app.memory import Memory
from APELocalizerLib.core.annotations.cases import read_cases, with_patients
from APELocalizerLib.core.base.errors import Cancelled, LibraryError
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.built_in import built_in_terms_path
from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.library.files import load_library, save_library
from APELocalizerLib.core.library.terms import read_terms
from APELocalizerLib.core.model.model import DEFAULT_THRESHOLD_MM
from made_up.maps import map_of_scan
from made_up.scans import body_phantom

FACTOR = {"anna": 1.0, "anna_later": 1.0, "bert": 0.8}
"""Embedding per mm: the same embedding lies 1.25 times as far out in Bert as in Anna, as if he were larger."""

TERMS = """\
name,kind,scheme,value,meaning,description,color
liver,organ,SCT,10200004,Liver,The whole liver.,#a0522d
apex,landmark,,,,Highest point of the lung.,#0069ff
carina,landmark,FMA,1,Carina,Where the trachea divides.,#ff8000
lung,organ,SCT,39607008,Lung,,#3f9fd0
bladder,organ,,,,,#f2ec5a
never_seen,landmark,,,,,#000000
"""


class SizeEmbedder:
    """Instead of a network: maps of a scan's field of view in cells of 10 mm, all of them body."""

    def embed(self, scan, *_arguments) -> EmbeddingMap:
        return map_of_scan(
            scan, lambda positions: positions * FACTOR[scan.name], model_id="test@1", scan_fingerprint=""
        )


@pytest.fixture
def engine() -> Engine:
    """An engine whose model is only a name."""
    model = SimpleNamespace(id="test@1", round_trip_threshold_mm=DEFAULT_THRESHOLD_MM)
    return Engine(reference=None, memory=Memory(lambda _: model, lambda *_: SizeEmbedder()))


@pytest.fixture
def terms(tmp_path):
    path = tmp_path / "terms.csv"
    path.write_text(TERMS)
    return read_terms(path)


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """Anna, a later scan of Anna, and Bert: the same liver in all, Bert's lung cut, Anna's bladder only."""
    rows = "case,name,r_mm,a_mm,s_mm\n"
    for name in FACTOR:
        (tmp_path / f"{name}.nii.gz").touch()
        rows += f"{name},carina,5,0,30\n{name},apex," + ("0,0,500\n" if name == "bert" else "20,-10,80\n")
    (tmp_path / "landmarks.csv").write_text(rows)
    boxes = "case,name,rmin,rmax,amin,amax,smin,smax,uncertainty_mm,cut_sides\n"
    for name in FACTOR:
        boxes += f"{name},liver,-40,40,-40,40,-40,40,3,\n"
    boxes += "anna,lung,-50,50,-30,30,10,80,3,\nbert,lung,-50,50,-30,30,10,99,3,smax\n"
    boxes += "anna,bladder,-20,20,-20,20,-90,-60,3,\n"
    (tmp_path / "boxes.csv").write_text(boxes)
    monkeypatch.setattr(
        "APELocalizerLib.app.library_builder.read_scan",
        lambda path: body_phantom(shape=(40, 40, 40), noise=0, name=path.name.split(".")[0]),
    )
    everyone = read_cases(tmp_path, tmp_path / "landmarks.csv", tmp_path / "boxes.csv")
    return {case.id: case for case in everyone}


# What is learned ------------------------------------------------------------------------------------------------------


def test_every_support_gives_a_shot_under_its_case_id(cases, terms, engine):
    library = build_library([cases["anna"], cases["bert"]], engine, terms).library
    carina = library.landmark("carina")
    assert [shot.support_id for shot in carina.shots] == ["anna", "bert"]
    assert carina.shots[0].position_ras == (5, 0, 30)
    assert carina.shots[1].embedding == pytest.approx((4, 0, 24), abs=1e-3)
    assert len(library.organ("liver").shots) == 2
    assert [(support.id, support.name) for support in library.supports] == [("anna", "anna"), ("bert", "bert")]


def test_organs_cut_by_the_field_of_view_are_left_out_and_named(cases, terms, engine):
    built = build_library([cases["anna"], cases["bert"]], engine, terms)
    assert [shot.support_id for shot in built.library.organ("lung").shots] == ["anna"]
    assert any("bert" in note and "lung" in note and "cut" in note for note in built.notes)


def test_points_outside_the_scan_are_left_out_and_named(cases, terms, engine):
    built = build_library([cases["anna"], cases["bert"]], engine, terms)
    assert [shot.support_id for shot in built.library.landmark("apex").shots] == ["anna"]
    assert any("bert" in note and "apex" in note for note in built.notes)


def test_terms_give_codes_descriptions_colors_and_order(cases, terms, engine):
    library = build_library([cases["anna"], cases["bert"]], engine, terms).library
    assert [each.name for each in library.landmarks] == ["apex", "carina"]
    assert [each.name for each in library.organs] == ["liver", "lung", "bladder"]
    assert library.landmark("carina").code == Code("FMA", "1", "Carina")
    assert library.landmark("carina").color == pytest.approx((1, 128 / 255, 0), abs=1e-3)
    assert library.landmark("carina").description == "Where the trachea divides."
    assert library.landmark("apex").code is None
    assert library.organ("liver").code == Code("SCT", "10200004", "Liver")


def test_terms_that_no_support_shows_are_named(cases, terms, engine):
    built = build_library([cases["anna"], cases["bert"]], engine, terms)
    assert "never_seen" in built.notes[-1] and "liver" not in built.notes[-1]


def test_the_library_survives_its_file(cases, terms, engine, tmp_path):
    library = build_library([cases["anna"], cases["bert"]], engine, terms).library
    save_library(library, tmp_path / "library.json")
    assert load_library(tmp_path / "library.json") == library


# How much boxes are enlarged ------------------------------------------------------------------------------------------


def test_enlargement_covers_what_was_found_too_small(cases, terms, engine):
    """With Bert's shot Anna's box is found at 0.8 of its size, with Anna's Bert's at 1.25, which holds all of it.

    The mean recall ((0.8 α)³ + 1) / 2 is 0.988 at 1.24 and 1 at 1.25.
    """
    built = build_library([cases["anna"], cases["bert"]], engine, terms)
    assert built.library.organ("liver").alpha == pytest.approx(1.25)
    liver = next(each for each in built.enlargements if each.organ == "liver")
    assert (liver.found, liver.searched) == (2, 2)


def test_a_patient_is_never_measured_with_own_scans(cases, terms, engine):
    """Were Anna's later scan a support for the first, boxes would be found at 0.9 of their size, and α be 1.11."""
    everyone = list(cases.values())
    apart = build_library(with_patients(everyone, ["anna"]), engine, terms)
    assert apart.library.organ("liver").alpha == pytest.approx(1.25)
    mixed = build_library(everyone, engine, terms)
    assert mixed.library.organ("liver").alpha == pytest.approx(1.11)


def test_enlargement_is_one_and_said_to_be_unmeasured_where_a_single_patient_shows_the_organ(cases, terms, engine):
    built = build_library(with_patients(list(cases.values()), ["anna"]), engine, terms)
    assert built.library.organ("bladder").alpha == 1.0
    assert any("bladder" in note and "could not be measured" in note for note in built.notes)


# What is refused ------------------------------------------------------------------------------------------------------


def test_unknown_names_are_refused_before_anything_is_embedded(cases, terms):
    engine = Engine(memory=Memory(lambda name: pytest.fail(f"the model {name} was loaded in vain")))
    del terms["carina"]
    with pytest.raises(LibraryError, match="does not know the landmark carina"):
        build_library([cases["anna"]], engine, terms)


def test_a_name_of_the_other_kind_is_refused(cases, engine, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text(TERMS.replace("carina,landmark", "carina,organ"))
    with pytest.raises(LibraryError, match='"carina" is annotated as landmark'):
        build_library([cases["anna"]], engine, read_terms(path))


def test_building_can_be_cancelled(cases, terms, engine):
    with pytest.raises(Cancelled):
        build_library([cases["anna"]], engine, terms, cancelled=lambda: True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("apex,landmark", "carina,landmark", "line 4: .*twice"),
        ("apex,landmark", "apex,point", "landmark or an organ"),
        ("SCT,10200004", "SCT,", "scheme, value and meaning"),
        ("SCT,10200004", "ICD,10200004", "SNOMED CT"),
        ("#0069ff", "blue", "#ff8000"),
        (",color\n", "\n", "column.s. color"),
        ("apex,", ",", "no name"),
    ],
)
def test_damaged_tables_of_terms_are_refused_in_words(tmp_path, old, new, message):
    path = tmp_path / "terms.csv"
    path.write_text(TERMS.replace(old, new, 1))
    with pytest.raises(LibraryError, match=message):
        read_terms(path)


def test_a_missing_table_of_terms_is_named(tmp_path):
    with pytest.raises(LibraryError, match="absent.csv"):
        read_terms(tmp_path / "absent.csv")


# The table that comes with the extension ------------------------------------------------------------------------------


def test_the_shipped_terms_are_complete():
    terms = read_terms(built_in_terms_path())
    kinds = [term.kind for term in terms.values()]
    assert kinds.count("landmark") >= 20 and kinds.count("organ") >= 8
    assert all(term.description.endswith(".") for term in terms.values())
    colors = np.array([term.color for term in terms.values()])
    apart = np.abs(colors[:, None] - colors[None]).max(axis=-1) + np.eye(len(colors))
    assert apart.min() > 0.1, "two colors can hardly be told apart"
    for name in terms:
        if "right" in name:
            assert name.replace("right", "left") in terms


def test_the_shipped_snomed_codes_have_the_right_check_digit():
    codes = [term.code for term in read_terms(built_in_terms_path()).values() if term.code]
    assert codes
    for code in codes:
        assert code.meaning
        if code.scheme == "SCT":
            assert verhoeff_is_valid(code.value), code
    assert not verhoeff_is_valid("10200005") and not verhoeff_is_valid("12000004")


def verhoeff_is_valid(digits: str) -> bool:
    """Whether a SNOMED CT identifier ends in its check digit (Verhoeff): it betrays any mistyped digit."""

    def times(a: int, b: int) -> int:  # in the dihedral group of ten elements
        if a < 5:
            return (a + b) % 5 + (5 if b >= 5 else 0)
        return (a - b) % 5 + (0 if b >= 5 else 5)

    permutation = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    check = 0
    for place, character in enumerate(reversed(digits)):
        digit = int(character)
        for _ in range(place):
            digit = permutation[digit]
        check = times(check, digit)
    return check == 0
