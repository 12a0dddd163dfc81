"""Library files: exact, described by the published schema, and refused in words when they are wrong."""

import dataclasses
import json
import os

import jsonschema
import numpy as np
import pytest

from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.library.files import from_json, load_library, save_library, to_json
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import localize
from made_up.libraries import changed
from made_up.maps import Patient, library_of, smooth_map
from made_up.paths import MODULE

LIBRARIES = MODULE / "Resources" / "Libraries"
SCHEMA = json.loads((LIBRARIES / "landmark-library.schema.json").read_text(encoding="utf-8"))


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


def test_a_library_keeps_what_its_scans_are_aligned_with(support_map, tmp_path):
    space = CoordinateSpace(support_map.model_id, "0123456789abcdef")
    library = library_of((Patient(), dataclasses.replace(support_map, space=space)))
    save_library(library, tmp_path / "aligned.json")
    assert load_library(tmp_path / "aligned.json").space == library.space == space
