"""Laid-out data folders: the observations kept beside a run are those of its tables and label maps."""

import pytest

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.training.data import laid_out as data
from APELocalizerLib.training.data.settings import DataSettings
from made_up.files import write_landmarks, write_torso

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
    path.write_text(path.read_text(encoding="utf-8").replace("one,liver,", "one,pancreas,"), encoding="utf-8")
    after = data._cached(cache, folder)
    assert after != before and after == data.gather_observations(folder)


@pytest.fixture
def scans(folder):
    """Two scans of one patient, whose names do not say so."""
    (folder / "train").mkdir()
    for name in ("first", "second"):
        (folder / "train" / f"{name}.nii.gz").touch()
    return folder


@pytest.mark.parametrize("place", ["", "annotations"])
def test_scans_of_one_patient_are_named_by_the_data_folder(scans, place):
    (scans / place / "patients.csv").write_text("case,patient\nfirst,anna\nsecond,anna\n", encoding="utf-8")
    assert data.read_patients(scans) == {"first": "anna", "second": "anna"}


def settings(folder):
    return DataSettings(folder=str(folder), held_out=("anna",))


def test_a_patient_to_hold_out_who_has_no_scan_is_refused_before_anything_is_read(scans, monkeypatch):
    monkeypatch.setattr(data, "gather_observations", None)
    with pytest.raises(TrainingError, match="no scan of the patient anna.*patients.csv.*case,patient"):
        data.load_training_set(settings(scans))


def test_no_scan_of_a_held_out_patient_is_trained_on(folder):
    """Two of three scans show one patient, who is held out: neither is trained on, and both are left to validation."""
    for name in ("first", "second", "one"):
        write_torso(folder / "train" / f"{name}.nii.gz")
    write_landmarks(folder / "annotations" / "landmarks.csv", {"first": {}, "second": {"shift": (9, 9, 9)}, "one": {}})
    (folder / "patients.csv").write_text("case,patient\nfirst,anna\nsecond,anna\n", encoding="utf-8")
    training_set = data.load_training_set(settings(folder))
    assert set(training_set.observations) == {"one"}, "the average patient knows nothing of her"
    assert [scan.name for scan in training_set.train] == ["one"]
    assert [scan.name for scan in training_set.held_out] == ["first", "second"]
