"""Library files that are no library, of another version or damaged are refused in words."""

import dataclasses
import json

import pytest

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.library.files import from_json, load_library, to_json
from made_up.libraries import changed
from made_up.maps import Patient, library_of


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


def test_a_file_that_mixes_references_is_refused(support_map):
    parts = [
        library_of((Patient(), dataclasses.replace(support_map, scan_fingerprint=reference, space=space)))
        for reference, space in ((name, CoordinateSpace(support_map.model_id, name)) for name in "ab")
    ]
    content, other = (json.loads(to_json(part)) for part in parts)
    content["supports"] += other["supports"]
    with pytest.raises(LibraryError, match="mixes support scans"):
        from_json(json.dumps(content))
