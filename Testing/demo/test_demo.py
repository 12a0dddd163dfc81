"""The demo's result is real: the embedded model finds one patient's landmarks on another's CT."""

import csv
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from APELocalizerLib.core.annotations.marks import read_points
from APELocalizerLib.core.library.spoken_names import spoken_name

DEMO = Path(__file__).with_name("demo.py")
SAMPLES = DEMO.parents[2] / "Resources" / "SampleData"


@pytest.fixture(scope="module")
def printed_and_rows(tmp_path_factory) -> tuple[str, dict[str, dict[str, str]]]:
    """What the demo prints, and the rows of its results.csv by name."""
    folder = tmp_path_factory.mktemp("demo")
    specification = importlib.util.spec_from_file_location("demo", DEMO)
    demo = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(demo)
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr(sys, "argv", ["demo.py", "--out", str(folder), "--no-scene"])
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        demo.main()
    with (folder / "one_patient" / "results.csv").open(newline="") as file:
        return "\n".join(lines), {row["name"]: row for row in csv.DictReader(file)}


def position(row: dict[str, str]) -> np.ndarray:
    return np.array([float(row[column]) for column in ("r_mm", "a_mm", "s_mm")])


def test_most_landmarks_are_found_near_their_known_positions(printed_and_rows):
    _, rows = printed_and_rows
    known = read_points(SAMPLES / "target_points.csv")
    errors = [np.linalg.norm(position(rows[name]) - known[name]) for name in known if rows[name]["status"] == "found"]
    assert len(errors) >= 0.7 * len(known)
    assert np.median(errors) < 25


def test_right_is_right_and_head_is_up(printed_and_rows):
    _, rows = printed_and_rows
    right, up = 0, 2
    for greater, less, axis in (
        ("lung_apex_right", "lung_apex_left", right),
        ("lung_apex_right", "diaphragm_dome_right", up),
        ("carina", "heart_apex", up),
    ):
        assert rows[greater]["status"] == rows[less]["status"] == "found"
        assert position(rows[greater])[axis] > position(rows[less])[axis] + 20


def test_the_tip_of_the_liver_is_reported_as_outside_the_scan(printed_and_rows):
    _, rows = printed_and_rows
    assert rows["liver_inferior_tip"]["status"] == "not_found"


def test_demo_prints_positions_errors_and_times(printed_and_rows):
    printed, rows = printed_and_rows
    for text in ("$ ape-localizer learn", "$ ape-localizer localize", "round trip mm", "median error", "Learning took"):
        assert text in printed
    for name in rows:
        assert spoken_name(name) in printed


def test_ten_patients_clicks_find_them_better_than_one_patients(printed_and_rows):
    printed, _ = printed_and_rows
    one, ten = (float(median) for median in re.findall(r"median error ([\d.]+) mm", printed))
    assert ten < min(one, 12.0)
