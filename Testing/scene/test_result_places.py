"""Where results lie now, as the panel jumps to them: as the table says, or where a point was moved since."""

from dataclasses import replace

import numpy as np
import pytest
import vtk

from APELocalizerLib.scene.result_rows import first_position, position_of, result_rows
from APELocalizerLib.scene.result_table import COLUMN_DESCRIPTIONS, fill_table
from APELocalizerLib.scene.results import show_localization
from made_up.nodes import CARINA, LIVER_BOX, located

APEX = (21.0, -32.0, 143.0)


@pytest.fixture
def nodes(a_volume_node, a_localization):
    """Carina, liver (landmark) and bladder (not found), a point with a side, and the liver's box."""
    points = (*a_localization.points, located("lung_apex_right", APEX))
    return show_localization(a_volume_node, replace(a_localization, points=points))


def rows_of(nodes) -> dict:
    return {row.name: row for row in result_rows(nodes.table_node)}


def test_there_are_no_rows_before_a_run():
    assert result_rows(None) == []


def test_a_row_tells_landmarks_from_organs_and_names_as_said_from_those_in_files(nodes):
    rows = rows_of(nodes)
    assert rows["lung_apex_right"].label == "right lung apex"
    assert {name: row.is_landmark for name, row in rows.items()} == {
        "carina": True, "liver": True, "bladder": True, "lung_apex_right": True, "liver box": False, "uterus": False,
    }  # fmt: skip
    assert rows["lung_apex_right"].position == ("21.0", "-32.0", "143.0"), "R, A, S"
    assert rows["uterus"].note == "outside the scan" and rows["bladder"].note == "outside the scan"
    assert [row.found for row in rows.values()] == [True, True, False, True, True, False]


def test_a_table_of_an_older_version_names_its_rows_as_they_are_shown(a_scene):
    table = vtk.vtkTable()
    older = {"Name": "apex", "Kind": "landmark", "Status": "found", "R (mm)": "1.0", "A (mm)": "2.0", "S (mm)": "3.0"}
    for title, text in {**older, "Round trip (mm)": "4.0", "Note": ""}.items():
        values = vtk.vtkStringArray()
        values.SetName(title)
        values.InsertNextValue(text)
        table.AddColumn(values)
    node = a_scene.AddNewNodeByClass("vtkMRMLTableNode")
    node.SetAndObserveTable(table)
    (row,) = result_rows(node)
    assert (row.name, row.label, row.grade, row.expected_error) == ("apex", "apex", "", "")
    assert position_of(row) == (1.0, 2.0, 3.0)


def test_a_result_lies_where_its_point_was_moved_to(nodes):
    """Also the first point of the list."""
    rows, points = rows_of(nodes), nodes.points_node
    for name in ("carina", "lung_apex_right"):
        assert position_of(rows[name], points) == pytest.approx(CARINA if name == "carina" else APEX)
    for index, place in ((0, (7.0, 8.0, 9.0)), (3, (-1.0, -2.0, -3.0))):
        points.SetNthControlPointPositionWorld(index, place)
    assert position_of(rows["carina"], points) == (7.0, 8.0, 9.0)
    assert position_of(rows["lung_apex_right"], points) == (-1.0, -2.0, -3.0)
    assert position_of(rows["carina"]) == CARINA, "as the table says"


def test_a_result_whose_point_is_gone_lies_where_the_table_says(nodes):
    nodes.points_node.RemoveNthControlPoint(3)
    assert position_of(rows_of(nodes)["lung_apex_right"], nodes.points_node) == APEX


def test_an_organ_lies_in_the_middle_of_its_box_and_not_at_a_landmark_of_its_name(nodes, a_localization):
    rows = rows_of(nodes)
    assert position_of(rows["liver box"], nodes.points_node) == tuple(LIVER_BOX.center)
    organ = replace(rows["liver box"], label="carina")
    assert position_of(organ, nodes.points_node) == tuple(LIVER_BOX.center)


def test_what_was_not_found_lies_nowhere(nodes):
    rows = rows_of(nodes)
    assert position_of(rows["bladder"], nodes.points_node) is None
    assert position_of(rows["uterus"]) is None


def test_the_first_result_is_the_first_that_was_found(a_scene, a_localization):
    node = a_scene.AddNewNodeByClass("vtkMRMLTableNode")
    carina, liver, bladder = a_localization.points
    fill_table(node, replace(a_localization, points=(bladder, liver, carina)))
    assert first_position(node) == liver.position_ras
    fill_table(node, replace(a_localization, points=(bladder,), organs=a_localization.organs[1:]))
    assert first_position(node) is None


def test_the_table_says_what_its_numbers_mean_and_cannot_be_typed_over(nodes):
    table = nodes.table_node
    says = {table.GetTable().GetColumnName(n): table.GetColumnDescription(table.GetTable().GetColumnName(n))
            for n in range(table.GetNumberOfColumns())}  # fmt: skip
    assert "patient's right" in says["R (mm)"] and "front" in says["A (mm)"] and "head" in says["S (mm)"]
    assert "not the error" in says["Round trip (mm)"]
    assert table.GetColumnTitle("Round trip (mm)") == "Round trip (mm), a consistency check"
    assert table.GetColumnTitle("Grade") == "Grade" and set(COLUMN_DESCRIPTIONS) <= set(says)
    assert table.GetUseColumnTitleAsColumnHeader() and table.GetLocked()


def test_a_box_says_its_size_and_one_that_was_not_found_only_why(nodes, a_localization):
    rows = rows_of(nodes)
    assert rows["liver box"].note == "found, round trip 5.5 mm, box 140 × 140 × 90 mm, volume ratio 0.40"
    assert "box" not in rows["uterus"].note
    np.testing.assert_allclose(LIVER_BOX.size, (140, 140, 90))
