"""Library files: exact, described by the published schema, and refused in words when they are wrong."""

import dataclasses
import json
import os

import jsonschema
import numpy as np
import pytest

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.library.files import from_json, load_library, save_library, to_json
from APELocalizerLib.core.library.learning import learn_box, learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import localize
from made_up.maps import CLICKS, Patient, library_of, smooth_map
from made_up.paths import MODULE

LIBRARIES = MODULE / "Resources" / "Libraries"
SCHEMA = json.loads((LIBRARIES / "landmark-library.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(support_map):
    """Two shots, a code, a description with odd letters, an organ with its own enlargement."""
    patient = Patient((1.05, 0.97, 1.02))
    library = library_of((Patient(), support_map), (patient, smooth_map(patient, name="second")))
    code, text = Code("SCT", "28700002", "Carina of trachea"), 'Die "Carina" – 気管分岐部'
    library = learn_points(library, support_map, {"carina": CLICKS["carina"]}, {"carina": code}, {"carina": text})
    return learn_box(library, support_map, "liver", Box((-50, -30, -60), (40, 35, 70)), alpha=1.25)


def changed(library: LandmarkLibrary, change) -> str:
    content = json.loads(to_json(library))
    change(content)
    return json.dumps(content)


def test_a_written_library_follows_the_published_schema(full):
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    for library in (full, LandmarkLibrary()):
        content = json.loads(to_json(library))
        validator.validate(content)
        assert content["$schema"] == SCHEMA["$id"]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(version=2),
        lambda c: c.update(model_id=None),
        lambda c: c["landmarks"][0]["shots"][0]["embedding"].pop(),
        lambda c: c["organs"][0].pop("alpha"),
        lambda c: c["organs"][0]["shots"][0]["edge_points_ras"].append([0, 0, 0]),
        lambda c: c["landmarks"][0].update(colour="red"),
        lambda c: c["landmarks"][0].update(name=" "),
    ],
)
def test_the_schema_refuses_what_is_wrong(full, change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(changed(full, change)), SCHEMA)


def test_save_and_load_gives_an_equal_library(full, tmp_path):
    save_library(full, tmp_path / "new" / "library.json")
    assert load_library(tmp_path / "new" / "library.json") == full
    assert from_json(to_json(LandmarkLibrary())) == LandmarkLibrary()


def test_save_load_localize_gives_identical_results(full, tmp_path):
    save_library(full, tmp_path / "library.json")
    target = smooth_map(Patient((0.95, 1.04, 1.1), (5, 5, 5)), noise_mm=3.0, name="target")
    assert localize(target, load_library(tmp_path / "library.json")) == localize(target, full)


def test_saving_twice_writes_the_same_file(full, tmp_path):
    save_library(full, tmp_path / "a.json")
    save_library(load_library(tmp_path / "a.json"), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_failed_save_keeps_the_old_file(full, tmp_path, monkeypatch):
    path = tmp_path / "library.json"
    save_library(full, path)
    before = path.read_bytes()

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError):
        save_library(full.without("liver"), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["library.json"], "nothing half-written stays"


def test_a_saved_library_can_be_read_by_others(full, tmp_path):
    """A file made by a temporary-file function is private by default; a library is made to be shared."""
    path = tmp_path / "library.json"
    save_library(full, path)
    ordinary = tmp_path / "ordinary.txt"
    ordinary.write_text("")
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_a_map_learned_on_decodes_from_the_file(full, support_map):
    decoded = from_json(to_json(full)).support("fingerprint of support").map
    np.testing.assert_allclose(decoded.values[decoded.body], support_map.values[support_map.body], atol=0.02)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "not a landmark library"),
        ('{"markups": []}', "not a landmark library"),
        ('"text"', "not a landmark library"),
        ("null", "not a landmark library"),
        ("[" * 200_000, "nested too deep"),
        ('{"format": ' * 2000 + "0" + "}" * 2000, "nested too deep"),
        ('{"format": "APELocalizer landmark library"}', "no valid version"),
        ('{"format": "APELocalizer landmark library", "version": 1}', "incomplete or damaged"),
    ],
)
def test_other_files_are_refused(text, sentence):
    with pytest.raises(LibraryError, match=sentence):
        from_json(text)


@pytest.mark.parametrize("version", [2, 1000])
def test_newer_versions_are_refused(full, version):
    with pytest.raises(LibraryError, match=f"version {version}.*up to version 1.*Update"):
        from_json(changed(full, lambda c: c.update(version=version)))


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, None])
def test_impossible_versions_are_refused(full, version):
    with pytest.raises(LibraryError, match="no valid version"):
        from_json(changed(full, lambda c: c.update(version=version)))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("where", ["position_ras", "embedding", "alpha", "edge_points_ras", "color"])
def test_numbers_that_are_none_are_refused(full, number, where):
    def change(content):
        if where == "alpha":
            content["organs"][0]["alpha"] = "@"
        elif where == "color":
            content["landmarks"][0]["color"][1] = "@"
        elif where == "edge_points_ras":
            content["organs"][0]["shots"][0][where][3][1] = "@"
        else:
            content["landmarks"][1]["shots"][0][where][2] = "@"

    with pytest.raises(LibraryError, match="number|between 0.5 and 10"):
        from_json(changed(full, change).replace('"@"', number))


def test_a_shot_of_another_model_is_refused(full):
    def change(content):
        content["landmarks"][1]["shots"][1]["checkpoint_id"] = "other@abcdefabcdef"

    with pytest.raises(LibraryError, match="mixes landmarks of the models .*other@abcdefabcdef"):
        from_json(changed(full, change))


def test_a_support_of_another_model_is_refused(full):
    def change(content):
        content["checkpoint_id"] = "other@abcdefabcdef"
        for entry in content["landmarks"] + content["organs"]:
            for shot in entry["shots"]:
                shot["checkpoint_id"] = "other@abcdefabcdef"

    with pytest.raises(LibraryError, match="cannot be mixed"):
        from_json(changed(full, change))


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda c: c["landmarks"].append(c["landmarks"][0]), "occurs twice"),
        (lambda c: c["organs"][0].update(name="carina"), "occurs twice"),
        (lambda c: c["supports"].append(c["supports"][0]), "occurs twice"),
        (lambda c: c["landmarks"][0]["shots"].append(c["landmarks"][0]["shots"][0]), "occurs twice"),
        (lambda c: c["supports"].pop(), "refers to the support scan"),
        (lambda c: c["supports"][0].update(map="AAAA"), "damaged"),
        (lambda c: c["supports"][0].update(map=None), "damaged"),
        (lambda c: c["supports"][0].update(map=c["supports"][0]["map"][:-40]), "damaged"),
        (lambda c: c["landmarks"][0].pop("shots"), "incomplete or damaged"),
        (lambda c: c["landmarks"][0].update(shots=5), "incomplete or damaged"),
        (lambda c: c["landmarks"][0].update(name=7), "needs a name"),
        (lambda c: c["landmarks"][0].update(code="28700002"), "incomplete or damaged"),
        (lambda c: c["landmarks"][0].update(color=["a", "b", "c"]), "three numbers"),
        (lambda c: c["landmarks"][0]["shots"][0].update(position_ras=[1, 2]), "three finite numbers"),
        (lambda c: c["landmarks"][0]["shots"][0].update(position_ras=["1", 2, 3]), "three numbers"),
        (lambda c: c["landmarks"][0]["shots"][0].update(embedding=None), "incomplete or damaged"),
        (lambda c: c["organs"][0].update(alpha="big"), "incomplete or damaged"),
        (lambda c: c["organs"][0]["shots"][0]["edge_points_ras"].pop(), "six extreme points"),
        (lambda c: c.update(supports={"id": 1}), "incomplete or damaged"),
        (lambda c: c.pop("organs"), "organs"),
        (lambda c: c["landmarks"][0]["shots"][0].update(embedding=[10**400, 0, 0]), "digits|number|damaged"),
        (lambda c: c["landmarks"][0].update(color=[10**400, 0, 0]), "digits|number"),
        (lambda c: c["organs"][0].update(alpha=10**400), "digits|number"),
        (lambda c: c["landmarks"][0]["shots"][0].update(position_ras=[0, 0, 1e300]), "impossibly far away"),
        (lambda c: c["landmarks"][0].update(name="x" * 300), "has 300 letters. Give it at most 200"),
        (lambda c: c["landmarks"][0].update(name="cari\nna"), "holds a line break"),
        (lambda c: c["landmarks"][0].update(name="\ud800"), "cannot be written"),
        (lambda c: c["landmarks"][0].update(description=5), "text is needed"),
        (lambda c: c["landmarks"][0]["shots"][0].update(date=20261128), "text is needed"),
        (lambda c: c["supports"][0].update(name=None), "text is needed"),
    ],
)
def test_damaged_libraries_are_refused(full, change, sentence):
    with pytest.raises(LibraryError, match=sentence):
        from_json(changed(full, change))


def test_load_names_the_file(tmp_path):
    with pytest.raises(LibraryError, match="does not exist"):
        load_library(tmp_path / "absent.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(LibraryError, match="^broken.json: "):
        load_library(tmp_path / "broken.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(LibraryError, match="binary.json cannot be read as text"):
        load_library(tmp_path / "binary.json")
    with pytest.raises(LibraryError, match="cannot be read"):
        load_library(tmp_path)


def test_a_library_keeps_what_its_scans_are_aligned_with(support_map, tmp_path):
    space = CoordinateSpace(support_map.model_id, "0123456789abcdef")
    library = library_of((Patient(), dataclasses.replace(support_map, space=space)))
    save_library(library, tmp_path / "aligned.json")
    assert load_library(tmp_path / "aligned.json").space == library.space == space


def test_a_file_that_mixes_references_is_refused(support_map):
    parts = [
        library_of((Patient(), dataclasses.replace(support_map, scan_fingerprint=reference, space=space)))
        for reference, space in ((name, CoordinateSpace(support_map.model_id, name)) for name in "ab")
    ]
    content, other = (json.loads(to_json(part)) for part in parts)
    content["supports"] += other["supports"]
    with pytest.raises(LibraryError, match="mixes support scans"):
        from_json(json.dumps(content))
