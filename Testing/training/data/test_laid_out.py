"""Laid-out data folders: the observations kept beside a run are those of its tables and label maps."""

import pytest

from APELocalizerLib.training.data import laid_out as data
from made_up.training_scans import write_landmarks

BOXES = "case,name,rmin,rmax,amin,amax,smin,smax,cut_sides\none,liver,0,50,0,50,0,50,smin\n"


@pytest.fixture
def folder(tmp_path):
    """A data folder with annotations of one scan, and no label maps."""
    annotations = tmp_path / "data" / "annotations"
    annotations.mkdir(parents=True)
    write_landmarks(annotations / "landmarks.csv", {"one": {}})
    (annotations / "boxes.csv").write_text(BOXES, encoding="utf-8")
    return tmp_path / "data"


@pytest.fixture
def gathered(monkeypatch):
    """How often observations were gathered anew."""
    calls, gather = [], data.gather_observations
    monkeypatch.setattr(data, "gather_observations", lambda folder: calls.append(1) or gather(folder))
    return calls


def test_observations_are_gathered_once(folder, tmp_path, gathered):
    cache = tmp_path / "run" / "observations.json"
    first, second = data._cached(cache, folder), data._cached(cache, folder)
    assert first == second == data.gather_observations(folder) and len(gathered) == 2
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


@pytest.mark.parametrize(
    "damage", [lambda kept: kept[: len(kept) // 2], lambda kept: b"\x80\x04pickle", lambda kept: b"[]"]
)
def test_a_damaged_file_of_observations_is_made_anew(folder, tmp_path, gathered, damage):
    cache = tmp_path / "observations.json"
    whole = data._cached(cache, folder)
    cache.write_bytes(damage(cache.read_bytes()))
    assert data._cached(cache, folder) == whole and len(gathered) == 2
    assert data._cached(cache, folder) == whole and len(gathered) == 2, "what was damaged is good again"


@pytest.mark.parametrize("table", ["landmarks.csv", "boxes.csv"])
def test_changed_annotations_are_noticed(folder, tmp_path, table):
    cache = tmp_path / "observations.json"
    before = data._cached(cache, folder)
    path = folder / "annotations" / table
    path.write_text(path.read_text(encoding="utf-8").replace("one,liver,", "one,spleen,"), encoding="utf-8")
    after = data._cached(cache, folder)
    assert after != before and after == data.gather_observations(folder)
