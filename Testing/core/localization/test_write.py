"""Result files that spreadsheets and Slicer read, and the files that users write."""

import csv
import json
import math

import numpy as np
import pytest

from APELocalizerLib.core.annotations.marks import read_boxes, read_points
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.learning import learn_box
from APELocalizerLib.core.localization.answers import LocatedOrgan, confidence_text
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.localization.write import safe_name, write_results
from made_up.maps import CLICKS, Patient, smooth_map


@pytest.fixture(scope="module")
def localization(library, support_map):
    """A scan that shows the lower half only: the dome and the liver are found, carina, apex and heart are not."""
    full = learn_box(library, support_map, "liver, right lobe", Box((-45, -30, -110), (40, 25, -50)), alpha=1.1)
    full = learn_box(full, support_map, "heart", Box((-30, -30, 90), (30, 30, 130)))
    abdomen = smooth_map(Patient((1.05, 0.97, 1.0)), shape=(20, 22, 12), center=(0, 0, -72), name="abdomen")
    return localize(abdomen, full, LocalizationSettings("paper", 25.0))


@pytest.fixture(scope="module")
def folder(localization, tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "new" / "out"
    write_results(localization, path)
    return path


def rows(path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def by_name(results) -> dict:
    return {result.name: result for result in results}


def by_name_rows(path) -> dict:
    return {row["name"]: row for row in rows(path)}


# What is written ---------------------------------------------------------------------------------------------------


def test_the_case_has_both_found_and_missing_results(localization):
    assert {p.name: p.found for p in localization.points} == {"carina": False, "apex": False, "dome": True}
    assert {o.name: o.found for o in localization.organs} == {"liver, right lobe": True, "heart": False}


def test_every_file_is_written_and_told(localization, tmp_path):
    files = write_results(localization, tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in files) == [
        "boxes.csv",
        "landmarks.mrk.json",
        "results.csv",
        "rois/liver__right_lobe.mrk.json",
    ]
    assert all(path.is_file() for path in files)


def test_results_csv_has_the_columns_and_positions_it_promises(folder, localization):
    header = "name,kind,status,r_mm,a_mm,s_mm,round_trip_mm,distance"
    header += ",expected_error_mm,radius_90_mm,grade,reason,scan"
    assert (folder / "results.csv").read_text(encoding="utf-8").splitlines()[0] == header
    table = by_name_rows(folder / "results.csv")
    dome, carina = by_name(localization.points)["dome"], table["carina"]
    assert (table["dome"]["kind"], table["dome"]["status"]) == ("landmark", "found")
    written = [float(table["dome"][column]) for column in ("r_mm", "a_mm", "s_mm")]
    np.testing.assert_allclose(written, dome.position_ras, atol=6e-4)
    assert float(table["dome"]["round_trip_mm"]) == pytest.approx(dome.round_trip_mm, abs=6e-4)
    assert (carina["status"], carina["r_mm"], carina["a_mm"], carina["s_mm"]) == ("not_found", "", "", "")
    assert float(carina["round_trip_mm"]) > 25, "how far off it was is told all the same"
    liver = table["liver, right lobe"]
    center = by_name(localization.organs)["liver, right lobe"].raw_box.center
    assert (liver["kind"], liver["status"]) == ("organ", "found")
    np.testing.assert_allclose([float(liver[c]) for c in ("r_mm", "a_mm", "s_mm")], center, atol=6e-4)
    assert (table["heart"]["status"], table["heart"]["r_mm"]) == ("not_found", "")


def test_boxes_csv_has_the_columns_and_sides_it_promises(folder, localization):
    header = "name,status,rmin,rmax,amin,amax,smin,smax,alpha,volume_ratio,round_trip_mm"
    assert (folder / "boxes.csv").read_text(encoding="utf-8").splitlines()[0] == header
    table = by_name_rows(folder / "boxes.csv")
    organ, row = by_name(localization.organs)["liver, right lobe"], table["liver, right lobe"]
    sides = [w for pair in zip(organ.box.minimum, organ.box.maximum, strict=True) for w in pair]
    np.testing.assert_allclose([float(row[c]) for c in header.split(",")[2:8]], sides, atol=6e-4)
    assert float(row["alpha"]) == 1.1
    assert float(row["volume_ratio"]) == pytest.approx(organ.volume_ratio, abs=1e-3)
    assert table["heart"]["status"] == "not_found"
    assert table["heart"]["rmin"] == table["heart"]["volume_ratio"] == ""


def test_boxes_csv_can_be_read_back_as_boxes_to_learn(folder, localization, tmp_path):
    kept = [line for line in (folder / "boxes.csv").read_text(encoding="utf-8").splitlines() if "not_found" not in line]
    (tmp_path / "boxes.csv").write_text("\n".join(kept))
    box = read_boxes(tmp_path / "boxes.csv")["liver, right lobe"]
    assert box.iou(by_name(localization.organs)["liver, right lobe"].box) > 0.9999


def test_landmarks_can_be_read_back_as_points_to_learn(folder, localization):
    """Missing landmarks are no clicks."""
    points = read_points(folder / "landmarks.mrk.json")
    assert list(points) == ["dome"]
    np.testing.assert_allclose(points["dome"], by_name(localization.points)["dome"].position_ras, atol=1e-9)


def test_descriptions_tell_the_confidence(localization):
    points = by_name(localization.points)
    assert confidence_text(points["dome"]) == f"found, round trip {points['dome'].round_trip_mm:.1f} mm"
    missing = confidence_text(points["apex"])
    assert missing.startswith("not found: ") and "field of view" in missing


def organ_named(name: str) -> LocatedOrgan:
    box = Box((0, 0, 0), (1, 1, 1))
    return LocatedOrgan(name, True, box, box, 1.0, 2.0, 0.0, 0.0, ((0.0, 0.0, 0.0),) * 6, "", (1, 1, 1))


def test_organs_with_similar_names_do_not_overwrite_each_other(localization, tmp_path):
    import dataclasses

    names = ("lobe: left", "lobe/ left", "Spleen", "spleen", "...")
    crowded = dataclasses.replace(localization, organs=tuple(organ_named(name) for name in names))
    files = [path for path in write_results(crowded, tmp_path) if path.parent.name == "rois"]
    assert len({str(path).lower() for path in files}) == 5
    labels = {json.loads(path.read_text(encoding="utf-8"))["markups"][0]["controlPoints"][0]["label"] for path in files}
    assert labels == set(names)


@pytest.mark.parametrize("name", ["a/b", "..", "c:\\d", "x*?", " ", "Milz-1_b.c", "気管"])
def test_safe_names_are_one_path_component(name):
    safe = safe_name(name)
    assert safe and not set(safe) & set('/\\:*?"<>| ') and not safe.startswith(".")


@pytest.mark.parametrize("name", ["con", "CON", "Aux.1", "lpt1"])
def test_names_that_windows_gives_to_no_file_are_changed(name):
    safe = safe_name(name)
    assert safe.endswith(name) and safe.split(".")[0].lower() not in ("con", "aux", "lpt1")
    assert safe_name("connective_tissue") == "connective_tissue"


def test_a_long_name_makes_a_file_name_that_every_system_takes(tmp_path):
    for name in ("x" * 200, "気" * 200):
        (tmp_path / f"{safe_name(name)}.mrk.json").touch()
    assert all(len(entry.name.encode()) <= 255 for entry in tmp_path.iterdir())


# In Slicer ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene():
    """A scene of Slicer's own in which markups are known."""
    slicer = pytest.importorskip("slicer")
    made = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLScene(made)
    yield made
    logic.SetMRMLScene(None)


def loaded(scene, node_class: str, path, storage_class: str = "vtkMRMLMarkupsJsonStorageNode"):
    """The markups file as Slicer's own storage node reads it."""
    node = scene.AddNewNodeByClass(node_class)
    storage = scene.AddNewNodeByClass(storage_class)
    storage.SetFileName(str(path))
    assert storage.ReadData(node), path
    return node


def test_slicer_reads_the_landmarks_where_they_are(scene, folder, localization):
    node = loaded(scene, "vtkMRMLMarkupsFiducialNode", folder / "landmarks.mrk.json")
    assert node.GetNumberOfControlPoints() == 3
    for index, point in enumerate(localization.points):
        assert node.GetNthControlPointLabel(index) == point.name
        assert node.GetNthControlPointDescription(index) == confidence_text(point)
        status = node.GetNthControlPointPositionStatus(index)
        if point.found:
            assert status == node.PositionDefined
            position = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(index, position)
            np.testing.assert_allclose(position, point.position_ras, atol=1e-6)
        else:
            assert status == node.PositionMissing


def test_slicer_reads_the_boxes_where_they_are(scene, folder, localization):
    box = by_name(localization.organs)["liver, right lobe"].box
    path = folder / "rois" / "liver__right_lobe.mrk.json"
    node = loaded(scene, "vtkMRMLMarkupsROINode", path, "vtkMRMLMarkupsROIJsonStorageNode")
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    np.testing.assert_allclose(bounds[0::2], box.minimum, atol=1e-4)
    np.testing.assert_allclose(bounds[1::2], box.maximum, atol=1e-4)
    np.testing.assert_allclose(node.GetCenterWorld(), box.center, atol=1e-4)
    np.testing.assert_allclose(node.GetSize(), box.size, atol=1e-4)


@pytest.mark.parametrize("use_ras", [False, True], ids=["LPS", "RAS"])
def test_points_that_slicer_wrote_are_read_where_they_are(scene, tmp_path, use_ras):
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    for name, place in CLICKS.items():
        node.AddControlPointWorld(list(place), name)
    node.AddControlPointWorld([0.0, 0.0, 0.0], "skipped")
    node.UnsetNthControlPointPosition(3)
    storage = scene.AddNewNodeByClass("vtkMRMLMarkupsJsonStorageNode")
    storage.SetFileName(str(tmp_path / "clicks.mrk.json"))
    if use_ras:
        storage.UseRASOn()
    assert storage.WriteData(node)
    points = read_points(tmp_path / "clicks.mrk.json")
    assert list(points) == list(CLICKS)
    for name, place in CLICKS.items():
        np.testing.assert_allclose(points[name], place, atol=1e-4)


def test_numbers_in_the_tables_are_numbers(folder):
    for row in rows(folder / "results.csv"):
        assert math.isfinite(float(row["round_trip_mm"])) and math.isfinite(float(row["distance"]))


def test_boxes_of_an_earlier_run_do_not_stay_behind_but_drawings_of_the_user_do(tmp_path, localization):
    """A second run into the same folder that finds fewer organs must not leave the first run's boxes beside it."""
    lost = next(organ for organ in localization.organs if organ.box is None)
    (tmp_path / "rois").mkdir()
    for name in (f"{lost.name}.mrk.json", "drawn_by_hand.mrk.json"):
        (tmp_path / "rois" / name).write_text("{}")
    write_results(localization, tmp_path)
    assert not (tmp_path / "rois" / f"{lost.name}.mrk.json").exists()
    assert (tmp_path / "rois" / "drawn_by_hand.mrk.json").read_text() == "{}"
