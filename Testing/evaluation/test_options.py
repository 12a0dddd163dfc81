"""`ape-localizer evaluate`, run as a user runs it: on the sample data, with the shipped weights."""

import csv
import json

import pytest

from APELocalizerLib.cli.program import main
from APELocalizerLib.core.base.errors import EvaluationError
from APELocalizerLib.core.library.files import save_library
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.evaluation.study_file import read_study_file


@pytest.fixture
def samples(request):
    return str(request.config.rootpath / "Resources" / "SampleData")


def test_the_sample_data_can_be_evaluated_and_a_second_time_from_the_cache(samples, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    study = tmp_path / "study.json"
    study.write_text(json.dumps({"title": "Samples", "targets": ["target"], "pictures": ["target"]}))
    options = ["--study", str(study), "--spacing", "fast", "--cache", str(tmp_path / "cache"), "--no-absent"]
    assert main(["evaluate", samples, "--out", str(tmp_path / "out"), *options]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "report.md")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# Samples\n") and "target: the field of view cuts liver, spleen, left out." in text
    with (tmp_path / "out" / "retrievals.csv").open() as file:
        rows = list(csv.DictReader(file))
    landmarks = [float(row["error_mm"]) for row in rows if row["kind"] == "landmark"]
    assert {row["target"] for row in rows} == {"target"} and len(landmarks) == 11
    assert sum(landmarks) / len(landmarks) < 40
    assert (tmp_path / "out" / "maps.png").is_file()

    def fail(*_, **__):
        raise AssertionError("embedded again")

    monkeypatch.setattr("APELocalizerLib.core.embedder.Embedder.embed", fail)
    assert main(["evaluate", samples, "--out", str(tmp_path / "again"), *options, "--no-plots"]) == 0
    again = (tmp_path / "again" / "retrievals.csv").read_text(encoding="utf-8")
    assert again == (tmp_path / "out" / "retrievals.csv").read_text(encoding="utf-8")
    assert [path.suffix for path in (tmp_path / "again").iterdir()].count(".png") == 0
    assert (
        main(["evaluate", samples, "--out", str(tmp_path / "both"), *options, "--no-plots", "--against-no-refine"]) == 0
    )
    both = (tmp_path / "both" / "report.md").read_text(encoding="utf-8")
    assert "### ape-default@" in both and ", not refined\n" in both and "| landmarks, mm, one support | 11 |" in both


def test_alignment_is_a_choice_that_can_be_measured(samples, tmp_path, capsys):
    """With the built-in library, without, and with one of one's own."""
    options = ["--targets", "target", "--spacing", "fast", "--no-absent", "--no-plots", "--cache", str(tmp_path / "c")]
    assert main(["evaluate", samples, "--out", str(tmp_path / "built-in"), *options, "--against-no-align"]) == 0
    text = (tmp_path / "built-in" / "report.md").read_text(encoding="utf-8")
    assert "coordinates aligned with 26 landmarks of acrin_flt_001_b," in text and ", not aligned\n" in text
    marks = [f"{samples}/support_ct.nii.gz", "--points", f"{samples}/support_points.csv"]
    own = str(tmp_path / "own.json")
    assert main(["learn", *marks, "--library", own, "--spacing", "fast", "--no-align"]) == 0
    for name, choice in (("own", ["--reference", own]), ("none", ["--no-align"])):
        assert main(["evaluate", samples, "--out", str(tmp_path / name), *options, *choice]) == 0
        text = (tmp_path / name / "report.md").read_text(encoding="utf-8")
        assert ("aligned with 12 landmarks of support_ct" if name == "own" else "coordinates not aligned") in text
    means = [landmark_errors(tmp_path / name) for name in ("built-in", "own", "none")]
    assert len({round(mean, 3) for mean in means}) == 3
    both = list(csv.DictReader((tmp_path / "built-in" / "retrievals.csv").open()))
    beside = [float(r["error_mm"]) for r in both if r["kind"] == "landmark" and r["method"].endswith("not aligned")]
    assert sum(beside) / len(beside) == pytest.approx(means[2], abs=1e-3)
    capsys.readouterr()
    save_library(LandmarkLibrary("other@1"), own)
    assert main(["evaluate", samples, "--out", str(tmp_path / "other"), *options, "--reference", own]) == 1
    assert "cannot be aligned with a library of the model other@1" in capsys.readouterr().err


def landmark_errors(folder) -> float:
    """Mean error of the first method's landmarks."""
    rows = list(csv.DictReader((folder / "retrievals.csv").open()))
    mine = [float(r["error_mm"]) for r in rows if r["kind"] == "landmark" and r["method"] == rows[0]["method"]]
    return sum(mine) / len(mine)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shots", "-1"], "--shots must be 0"),
        (["--folds", "0"], "--folds must be at least 1"),
        (["--pairs", "0"], "--pairs must be at least 1"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--targets", "nobody"], "no annotated scan for: nobody"),
        (["--pictures", "nobody"], "no annotated scan for: nobody"),
        (["--against-rule", "paper"], "Both methods are identical"),
        (["--no-align", "--against-no-align"], "Both methods are identical"),
        (["--methods", "magic"], "no method called “magic”. The methods are: ape, body-box, affine, bspline"),
        (["--methods", "body-box", "--against-no-align"], "Add it to --methods"),
        (["--study", "{missing}"], "cannot be read as JSON"),
        (["--study", "{unknown}"], "it has target"),
        (["--study", "{empty}"], "supports names no case"),
        (["--study", "{text}"], "targets must be a list of texts"),
        (["--study", "{number}"], "targets must be a list of texts"),
        (["--study", "{nested}"], "pictures must be a list of texts"),
        (["--study", "{untitled}"], "title must be a text"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence_before_anything_is_embedded(
    samples, tmp_path, capsys, monkeypatch, options, words
):
    monkeypatch.setattr("APELocalizerLib.core.embedder.Embedder.embed", None)
    studies = {
        "unknown": {"target": ["target"]},
        "empty": {"supports": []},
        "text": {"targets": "target"},
        "number": {"targets": 5},
        "nested": {"pictures": [["target"]]},
        "untitled": {"targets": None, "title": 5},
    }
    for name, content in studies.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = {f"{{{name}}}": str(tmp_path / f"{name}.json") for name in ("missing", *studies)}
    options = [files.get(each, each) for each in options]
    assert main(["evaluate", samples, "--out", str(tmp_path / "out"), *options]) == 1
    errors = capsys.readouterr().err
    assert words in errors and len(errors.strip().splitlines()) == 1


def test_missing_packages_are_named_with_the_way_out(samples, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    from APELocalizerLib.cli.evaluate import _need
    from APELocalizerLib.core.base.errors import EvaluationError

    with pytest.raises(EvaluationError, match=r"\.\[evaluate\].*give --no-plots"):
        _need("matplotlib", "The plots need matplotlib", "give --no-plots")


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"title": ' + "9" * 400 + "}", '{"title": NaN}', '{"title": 1e999}', '{"title": "open']
)
def test_study_files_made_to_do_harm_are_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(EvaluationError, match="cannot be read as JSON"):
        read_study_file(tmp_path / "study.json")
