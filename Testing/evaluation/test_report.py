"""The report of a made-up study: tables with known figures, plots that show something, figures as JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from APELocalizerLib.core.annotations.folder import read_data_folder
from APELocalizerLib.evaluation.mean_boxes import with_few_shot_boxes
from APELocalizerLib.evaluation.measures import error, main_rows, reliability_bins
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.evaluation.report import markdown, write_figures
from APELocalizerLib.evaluation.report_tables import by_name, time_table
from APELocalizerLib.evaluation.retrieval_table import Retrieval
from APELocalizerLib.evaluation.study import run_study
from APELocalizerLib.methods.body_box import BodyBox
from APELocalizerLib.methods.transfer import Transfer


@pytest.fixture
def study(patients):
    """Anna, Bert, and Carl whose embedding is 12 mm off along R; and the body box beside it."""
    patients.add("carl", (12, 0, 0))
    for landmark, s in (("apex", 180), ("carina", 90), ("hip", -170)):
        patients.mark("carl", landmark, (10, 20, s), 4)
    patients.box("carl", "liver", (-60, 40, -50, 50, -20, 60), 3)
    patients.label_map("anna", {"heart": (slice(5, 12), slice(8, 15), slice(30, 36))})
    patients.label_map("bert", {"heart": (slice(5, 12), slice(8, 15), slice(34, 40))})
    cases = list(read_data_folder([patients.folder]).values())
    return with_few_shot_boxes(run_study(cases, cases, [patients.method(), BodyBox()]))


def test_tables_say_what_was_measured(study):
    text = markdown(study, "A study", ["Made for a test."])
    assert text.startswith("# A study\n\nMade for a test.")
    for part in ("## Overview", "Table 2", "Table 3", "Table 4", "AWD", "## Not found", "## Choices", "### body-box"):
        assert part in text, part
    assert "9 landmarks" in text and "AUC of “not found”, landmarks | 1.000" in text
    assert "anna: the field of view cuts lung, left out." in text
    assert "`--box-from` | rule" in text
    assert "](" not in text, "no plots were drawn"


def test_a_table_has_the_mean_spread_and_quantile_of_each_structure(study):
    """Carl's and Anna's carina: 12 mm off either way, as Carl's and Bert's; Anna's and Bert's: none."""
    line = next(line for line in by_name(study, "landmark", error) if line.startswith("| carina"))
    errors = np.array([0, 0, 12, 12, 12, 12])
    figures = f"| carina | 6 | {errors.mean():.1f} ± {errors.std():.1f} (12.0) | 12.0 |"
    assert line.startswith(figures)


def test_pooling_over_structures_gives_each_structure_one_voice(study):
    errors = {"carina": [0.0, 0.0, 0.0, 8.0], "apex": [10.0]}
    rows = [Retrieval("made up", "anna", ("bert",), "landmark", n, error_mm=e) for n in errors for e in errors[n]]
    few = type(study)(**{**vars(study), "retrievals": rows})
    assert "| **all** | 5 | 3.6 ± 4.5 (0.0)" in "\n".join(by_name(few, "landmark", error))
    pooled = type(study)(**{**vars(few), "protocol": Protocol(pooling="structures")})
    assert "| **all** | 5 | 6.0 ± 4.0 (6.0)" in "\n".join(by_name(pooled, "landmark", error))


def test_confidence_is_binned_by_the_round_trip():
    rows = [
        Retrieval("m", "t", ("s",), "landmark", "x", error_mm=e, round_trip_mm=r)
        for r, e in ((4.9, 1), (5.0, 2), (9.0, 4), (500.0, 90))
    ]
    found = reliability_bins(rows)
    assert [(low, high) for low, high, _ in found] == [(0, 5), (5, 10), (60, float("inf"))]
    assert [each[2].tolist() for each in found] == [[1], [2, 4], [90]]


class Heights(Transfer):
    """A method that finds heights only, 4 mm too high."""

    name = "heights"

    def carry(self, support_id, target_id, points):
        return np.column_stack([np.full((len(points), 2), np.nan), points[:, 2] + 4])


def report_of(patients, methods, folder):
    cases = list(read_data_folder([patients.folder]).values())
    study = with_few_shot_boxes(run_study(cases, cases, methods))
    write_figures(study, folder / "figures.json")
    return study, markdown(study, "A study"), json.loads((folder / "figures.json").read_text(encoding="utf-8"))


def test_a_method_that_finds_heights_only_is_compared_in_height(patients, tmp_path):
    """Bert lies 30 mm higher, so that heights carried over as they are end up 34 mm or 26 mm off."""
    _, text, figures = report_of(patients, [patients.method(), Heights()], tmp_path)
    line = next(line for line in text.splitlines() if line.startswith("| landmarks, superior–inferior only, mm, one"))
    assert "| 6 | 0.0 ± 0.0 (0.0) | 30.0 ± 4.0 (30.0) | -30.0 |" in line
    assert figures["landmarks, superior–inferior only, mm"]["one support"]["count"] == 6
    assert "nan" not in text and figures["landmarks, mm"]["one support"]["mean"] == pytest.approx(0, abs=0.5)


def test_a_study_needs_no_method_with_an_embedding(patients, tmp_path):
    study, text, figures = report_of(patients, [Heights(), BodyBox()], tmp_path)
    assert "### Landmarks: distance from the annotation, superior–inferior only, mm" in text and "nan" not in text
    assert "landmarks, mm" not in figures and "## Confidence" not in text and "## Boxes" not in text
    assert figures["landmarks, superior–inferior only, mm"]["one support"]["mean"] == pytest.approx(30)
    pytest.importorskip("matplotlib")
    from APELocalizerLib.evaluation.pictures import draw_pictures
    from APELocalizerLib.evaluation.plots import draw_all

    draw_all(study, tmp_path)
    assert draw_pictures(study, {}, tmp_path, ("R", "A", "S")) == {}


def test_times_are_told_per_method(study):
    lines = time_table(study)
    assert "| made up | 0.50 s | – |" in lines[2] and lines[3].startswith("| body-box |")


def test_figures_for_programs(study, tmp_path):
    write_figures(study, tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    landmarks = figures["landmarks, mm"]["one support"]
    assert landmarks["count"] == len(main_rows(study, "landmark", 1)) == 18
    assert landmarks["mean"] == pytest.approx(8.0, abs=0.1)
    assert 0 < figures["box IoU"]["mean of 5 boxes"]["mean"] <= 1


def test_plots_show_something(study, patients, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    from APELocalizerLib.evaluation.pictures import draw_pictures
    from APELocalizerLib.evaluation.plots import draw_all

    scans = {name: patients.scan(patients.folder / f"{name}.nii.gz") for name in ("anna", "bert")}
    plots = {**draw_all(study, tmp_path), **draw_pictures(study, scans, tmp_path, ("R", "A", "S"))}
    names = {"error_cdf", "structures", "boxes", "reliability", "methods", "embeddings", "maps"}
    assert set(plots) == names
    for file in plots.values():
        picture = imread(tmp_path / file)
        assert picture.shape[0] > 150 and picture.shape[1] > 300
        assert picture[..., :3].std() > 0.03, f"{file} is blank"
    assert all(f"]({name}.png)" in markdown(study, "x", (), plots) for name in names)


def test_plots_say_how_many_and_draw_no_curve_of_a_few(study, patients):
    pytest.importorskip("matplotlib")
    from APELocalizerLib.evaluation import plots

    figure = plots.error_cdf(study)
    for axis in figure.axes:
        counts = [int(count) for count in axis.get_title().split("n = ")[1].split(" / ")]
        assert axis.lines and len(counts) == len(axis.lines) and min(counts) >= 10
        assert axis.get_legend() is None, "the legend stands beside the curves"
    assert plots.error_cdf(replace(study, retrievals=main_rows(study, "landmark", 1)[:3])) is None
    names = [label.get_text() for label in plots.structures(study).axes[0].get_yticklabels()]
    assert names and all(", n = " in name and "_" not in name for name in names)
