"""Tables of landmarks and boxes as users write them: what is refused, and which scans have enough annotations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data import own_scans as user_data
from APELocalizerLib.training.data.volumes import AnchoredSource
from APELocalizerLib.training.objectives.retrieval import resample
from APELocalizerLib.training.patients.settings import PairSettings
from APELocalizerLib.training.patients.virtual_patients import CropKind, Deformation, draw_crop

GRID = np.array([[0, -4.0, 0, 40], [-4.0, 0, 0, 40], [0, 0, -4.0, 40], [0, 0, 0, 1]])
LANDMARKS, BOXES = "case,name,r_mm,a_mm,s_mm,uncertainty_mm\n", "case,name,rmin,rmax,amin,amax,smin,smax,cut_sides\n"


class Prepared:
    """A prepared scan of 20 x 20 x 20 voxels that are all body."""

    unit, grid_to_ras = 1.0, GRID

    def __init__(self, name):
        self.name = name

    def image(self):
        return np.full((20, 20, 20), 0.5, np.float32)

    def body(self):
        return np.ones((20, 20, 20), np.float32)


def settings(tmp_path, landmarks, boxes, **changes):
    """Settings of anchored training with these tables."""
    tables = {}
    for name, text in (("landmarks", landmarks), ("boxes", boxes)):
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
        tables[name] = str(tmp_path / f"{name}.csv")
    return TrainingConfig(str(tmp_path / "run")).changed(**tables, **changes)


def training_set(tmp_path, landmarks, boxes, *names, **changes):
    config = settings(tmp_path, landmarks, boxes, **changes)
    annotations = read_annotations(config, names)
    return user_data.training_set([Prepared(name) for name in names], annotations, config.data)


def read_annotations(config, names):
    return user_data.read_annotations(config.data, names, config.objective.takes_unlabelled)


@pytest.mark.parametrize("cells", ["nan,0,0,5", "0,inf,0,5", "0,0,0,nan"])
def test_a_landmark_that_is_not_finite_is_named(tmp_path, cells):
    with pytest.raises(TrainingError, match="line 2: carina of one has no number"):
        training_set(tmp_path, f"{LANDMARKS}one,carina,{cells}\n", BOXES, "one")


def test_a_box_that_is_not_finite_is_named(tmp_path):
    with pytest.raises(TrainingError, match="line 2: liver of one has no number"):
        training_set(tmp_path, LANDMARKS, f"{BOXES}one,liver,0,50,nan,50,0,50,\n", "one")


@pytest.mark.parametrize("cells", ["0,50,left,50,0,50,", "0,50"], ids=["a word", "too few"])
def test_a_box_without_numbers_is_refused_in_a_sentence(tmp_path, cells):
    with pytest.raises(TrainingError, match="boxes.csv, line 2: liver of one has no number in the column a"):
        training_set(tmp_path, LANDMARKS, f"{BOXES}one,liver,{cells}\n", "one")


@pytest.mark.parametrize("table", ["landmarks", "boxes"])
def test_a_table_that_annotates_something_twice_is_refused(tmp_path, table):
    """Which of the two rows is right, nobody can know; the last one won without a word."""
    landmarks, boxes = f"{LANDMARKS}one,carina,0,0,0,\n", f"{BOXES}one,liver,0,50,0,50,0,50,\n"
    texts = {"landmarks": landmarks, "boxes": boxes}
    texts[table] += texts[table].splitlines()[1].replace("0", "1") + "\n"
    with pytest.raises(TrainingError, match=rf"{table}.csv, line 3: .* of one stands there twice"):
        training_set(tmp_path, texts["landmarks"], texts["boxes"], "one")


def test_an_unclosed_quote_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(TrainingError, match="quotation mark"):
        training_set(tmp_path, f'{LANDMARKS}one,"carina,0,0,0,\n', BOXES, "one")


def test_tables_of_spreadsheets_are_read(tmp_path):
    """Semicolons, decimal commas, blanks and an empty line, as European spreadsheets write them."""
    rows = "".join(f" one ;place {n};{n},5;{-n},25;{n * n},0;\n" for n in range(4))
    text = "case;name;r_mm;a_mm;s_mm;uncertainty_mm\n" + rows + ";;;;;\n"
    annotations = read_annotations(settings(tmp_path, text, BOXES), ("one",))
    point, sigma = annotations.points["one"]["place 3"]
    assert point.tolist() == [3.5, -3.25, 9.0] and sigma == 5.0


def test_a_scan_that_is_not_annotated_along_all_axes_stays_unlabelled(tmp_path):
    """Boxes whose upper and lower sides are all cut give many observations, but none along S."""
    points = "".join(f"one,{name},{p},{-p},{2 * p},\n" for name, p in (("carina", 0), ("apex", 20), ("tip", -30)))
    boxes = "".join(f"two,{name},0,{mm},0,{mm},0,{mm},smin;smax\n" for name, mm in (("liver", 30), ("heart", 20)))
    data = training_set(tmp_path, LANDMARKS + points, BOXES + boxes, "one", "two", pairs=PairSettings(), anchored=True)
    assert [scan.name for scan in data.train] == ["one"] and [scan.name for scan in data.unlabelled] == ["two"]
    with pytest.raises(TrainingError, match="No scan has enough annotations"):
        training_set(tmp_path, LANDMARKS, BOXES + boxes, "one", "two")


def test_two_boxes_and_a_landmark_are_enough(tmp_path):
    boxes = "".join(f"one,{name},0,{mm},0,{mm},0,{mm},smin\n" for name, mm in (("liver", 30), ("heart", 20)))
    data = training_set(tmp_path, f"{LANDMARKS}one,carina,0,0,0,\n", BOXES + boxes, "one")
    assert [scan.name for scan in data.train] == ["one"]


def points_of(case, count):
    return "".join(f"{case},place {n},{20 * n},{-10 * n},{5 * n * n},\n" for n in range(count))


def test_scans_that_a_run_does_not_use_are_told_and_not_read(tmp_path, monkeypatch):
    """Of five scans one has enough landmarks; `mixed` trains on those with few or none as well."""
    read = []
    monkeypatch.setattr(Prepared, "image", lambda self: read.append(self.name) or np.full((20, 20, 20), 0.5))
    landmarks = LANDMARKS + points_of("one", 4) + points_of("few", 2) + points_of("out", 3) + points_of("absent", 3)
    names, held_out = ("one", "few", "none", "out", "blind"), ("out", "blind")
    config = settings(tmp_path, landmarks, BOXES, held_out=held_out)
    told = read_annotations(config, names).notes
    assert len(told) == 4 and "called absent," in told[0] and "of few are not used" in told[1]
    assert "validated on blind," in told[2] and told[3].startswith("2 scans have") and "--preset mixed" in told[3]
    data = training_set(tmp_path, landmarks, BOXES, *names, held_out=held_out)
    assert read == ["one", "out"] and not data.unlabelled
    mixed = dict(held_out=held_out, pairs=PairSettings(), anchored=True)
    data = training_set(tmp_path, landmarks, BOXES, *names, **mixed)
    assert [scan.name for scan in data.unlabelled] == ["few", "none"]
    told = read_annotations(settings(tmp_path, landmarks, BOXES, **mixed), names).notes
    assert not any("--preset mixed" in note for note in told)


def test_scans_in_memory_are_small_and_are_used_as_float32(tmp_path):
    data = training_set(tmp_path, LANDMARKS + points_of("one", 4), BOXES, "one")
    scan = data.train[0]
    assert scan.nbytes == 20**3 * (4 * 2 + 1) + scan.target.nbytes
    assert scan.body_extent == ((0, 19),) * 3
    scan = replace(scan, levels=[torch.rand(level.shape).half() for level in scan.levels])
    full = replace(scan, levels=[level.float() for level in scan.levels], body=scan.body.float())
    crops = [
        draw_crop(
            s, CropKind((4.0, 4.0, 4.0), 1.0, 40_000), Deformation(), np.random.default_rng(seed), generator(seed)
        )
        for seed in range(24)
        for s in (scan, full)
    ]
    for one, other in zip(crops[::2], crops[1::2], strict=True):
        assert one.image.dtype == torch.float32 and torch.equal(one.image, other.image)
        assert torch.equal(one.weight, other.weight)
        assert (one.outside is None) == (other.outside is None)
    assert any(crop.outside is not None for crop in crops)
    one, other = (AnchoredSource(s).load(torch.device("cpu")) for s in (scan, full))
    places = 40 * torch.rand(1, 3, 5, 6, 7)
    assert torch.equal(one.image_at(places, 1), other.image_at(places, 1))
    for spacing in ((4.0, 4.0, 6.0), (6.0, 6.0, 9.0)):
        for found, expected in zip(resample(scan, spacing)[:2], resample(full, spacing)[:2], strict=True):
            assert torch.equal(found, expected)


def generator(seed):
    return torch.Generator().manual_seed(seed)
