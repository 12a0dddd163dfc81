"""What other programs rely on in result files, cell by cell."""

import csv
import json
from dataclasses import replace

import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.localization.answers import Localization, LocatedOrgan, LocatedPoint
from APELocalizerLib.core.localization.write import points_markup, roi_markup, safe_name, write_results

BOX, RAW = Box((-10, -20, -30), (30, 40, 50)), Box((-5, -10, -20), (15, 30, 40))
CARINA = LocatedPoint(
    "carina", True, (1.5, -2.25, 3.0), (1.5, -2.25, 3.0), 4.0, 0.5, "", (1, 1, 0),
    expected_error_mm=6.04, radius_90_mm=14.06, grade="sure",
)  # fmt: skip
APEX = LocatedPoint("apex", False, None, (7.0, 8.0, 9.0), 80.0, 40.0, "cut", (1, 1, 0), grade="not found")
LIVER = LocatedOrgan("liver", True, BOX, RAW, 1.1, 2.5, 5.5, 1.25, ((0.0, 0.0, 0.0),) * 6, "", (1, 0, 0))
HEART = LocatedOrgan(
    "heart",
    False,
    None,
    RAW,
    1.0,
    float("nan"),
    60.0,
    30.0,
    ((0.0, 0.0, 0.0),) * 6,
    "cut",
    (1, 0, 0),
    grade="not found",
)


@pytest.fixture
def localization():
    return Localization((CARINA, APEX), (LIVER, HEART), CoordinateSpace("m"), "standard", "torso", "paper", 25.0)


def rows(path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def test_every_cell_of_the_results(localization, tmp_path):
    write_results(localization, tmp_path)
    assert rows(tmp_path / "results.csv") == [
        [
            "carina",
            "landmark",
            "found",
            "1.500",
            "-2.250",
            "3.000",
            "4.000",
            "0.500",
            "6.0",
            "14.1",
            "sure",
            "",
            "torso",
        ],
        ["apex", "landmark", "not_found", "", "", "", "80.000", "40.000", "", "", "not found", "cut", "torso"],
        ["liver", "organ", "found", "5.000", "10.000", "10.000", "5.500", "1.250", "", "", "", "", "torso"],
        ["heart", "organ", "not_found", "", "", "", "60.000", "30.000", "", "", "not found", "cut", "torso"],
    ]
    assert rows(tmp_path / "boxes.csv") == [
        ["liver", "found", "-10.000", "30.000", "-20.000", "40.000", "-30.000", "50.000", "1.100", "2.500", "5.500"],
        ["heart", "not_found", "", "", "", "", "", "", "1.000", "", "60.000"],
    ]


def test_landmarks_are_numbered_locked_and_in_lps(localization):
    (markup,) = points_markup(localization)["markups"]
    assert markup["type"] == "Fiducial" and markup["locked"] is True
    assert (markup["coordinateSystem"], markup["coordinateUnits"]) == ("LPS", "mm")
    carina, apex = markup["controlPoints"]
    assert (carina["id"], carina["position"], carina["positionStatus"]) == ("1", [-1.5, 2.25, 3.0], "defined")
    assert (apex["id"], apex["position"], apex["positionStatus"]) == ("2", [-7.0, -8.0, 9.0], "missing")
    assert carina["locked"] is apex["locked"] is True


def test_a_box_is_upright_locked_and_cuts_what_is_outside_it():
    (markup,) = roi_markup("liver", BOX, "sure")["markups"]
    assert (markup["type"], markup["roiType"], markup["insideOut"], markup["locked"]) == ("ROI", "Box", False, True)
    assert markup["center"] == [-10.0, -10.0, 10.0] and markup["size"] == [40.0, 60.0, 80.0]
    assert markup["orientation"] == [-1, 0, 0, 0, -1, 0, 0, 0, 1], "the axes are R, A and S, written in LPS"
    (point,) = markup["controlPoints"]
    assert (point["position"], point["label"], point["description"]) == (markup["center"], "liver", "sure")


def test_results_are_written_again_into_the_same_folder(localization, tmp_path):
    first = write_results(localization, tmp_path / "new" / "folder")
    second = write_results(replace(localization, scan_name="again"), tmp_path / "new" / "folder")
    assert first == second and all(path.is_file() for path in second)
    assert [path.name for path in second[3:]] == ["liver.mrk.json"]
    assert rows(second[1])[0][-1] == "again"
    label = json.loads(second[3].read_text(encoding="utf-8"))["markups"][0]["controlPoints"][0]["label"]
    assert label == "liver"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/b c", "a_b_c"),
        ("Milz-1_b.c", "Milz-1_b.c"),
        ("..x.", "x"),
        ("...", "unnamed"),
        ("", "unnamed"),
        ("気管", "気管"),
    ],
)
def test_letters_that_every_system_takes_stay(name, safe):
    assert safe_name(name) == safe


def test_file_names_have_at_most_200_bytes():
    assert len(safe_name("x" * 300).encode()) <= 200 and safe_name("x" * 200) == "x" * 200
