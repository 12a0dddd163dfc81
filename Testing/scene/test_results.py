"""What was found becomes nodes that lie right, in one folder, and nothing else is touched."""

from dataclasses import replace

import numpy as np
import pytest
import slicer
import slicer.util

from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.scene import results
from APELocalizerLib.scene.result_table import TABLE_COLUMNS
from APELocalizerLib.scene.results import show_localization
from made_up.nodes import (
    CARINA,
    LIVER_BOX,
    ROTATION,
    STRETCH,
    TRANSFORMS,
    bent_transform,
    contents,
    linear_transform,
    located,
    located_box,
    overwrite_descriptions,
    raises,
)

MISSING = slicer.vtkMRMLMarkupsNode.PositionMissing


def world_bounds(roi_node) -> Box:
    bounds = [0.0] * 6
    roi_node.GetRASBounds(bounds)
    return Box(tuple(bounds[::2]), tuple(bounds[1::2]))


def assert_same_box(actual: Box, expected: Box, tolerance=1e-6):
    np.testing.assert_allclose(actual.minimum, expected.minimum, atol=tolerance)
    np.testing.assert_allclose(actual.maximum, expected.maximum, atol=tolerance)


def rows(table_node) -> list[list[str]]:
    table = table_node.GetTable()
    return [[table_node.GetCellText(r, c) for c in range(len(TABLE_COLUMNS))] for r in range(table.GetNumberOfRows())]


def test_landmarks_carry_name_position_and_confidence(a_volume_node, a_localization):
    points = show_localization(a_volume_node, a_localization).points_node
    assert [points.GetNthControlPointLabel(i) for i in range(3)] == ["carina", "liver", "bladder"]
    np.testing.assert_allclose(points.GetNthControlPointPositionWorld(0), CARINA)
    assert points.GetNthControlPointDescription(0) == "found, round trip 3.2 mm"
    assert points.GetLocked()


def test_landmark_that_was_not_found_is_missing_not_somewhere(a_volume_node, a_localization):
    points = show_localization(a_volume_node, a_localization).points_node
    assert points.GetNthControlPointPositionStatus(2) == MISSING
    assert points.GetNthControlPointDescription(2) == "not found: outside the scan"
    assert points.GetNumberOfDefinedControlPoints() == 2


def test_only_found_organs_get_a_box(a_volume_node, a_localization):
    nodes = show_localization(a_volume_node, a_localization)
    assert list(nodes.roi_nodes) == ["liver box"]
    roi = nodes.roi_nodes["liver box"]
    assert_same_box(world_bounds(roi), LIVER_BOX)
    np.testing.assert_allclose(roi.GetDisplayNode().GetSelectedColor(), (0.8, 0.3, 0.2))
    assert "SCT^10200004^Liver" in roi.GetAttribute("Terminologies.TerminologyEntry")
    assert "round trip 5.5 mm" in roi.GetNthControlPointDescription(0)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_results_lie_right_under_the_scans_transforms(a_scene, a_volume_node, a_localization, name):
    parent = linear_transform(a_scene, TRANSFORMS[name], linear_transform(a_scene, ROTATION))
    a_volume_node.SetAndObserveTransformNodeID(parent.GetID())
    nodes = show_localization(a_volume_node, a_localization)
    np.testing.assert_allclose(nodes.points_node.GetNthControlPointPositionWorld(0), CARINA, atol=1e-6)
    assert_same_box(world_bounds(nodes.roi_nodes["liver box"]), LIVER_BOX)


def test_results_follow_the_scan_when_it_is_moved_later(a_scene, a_volume_node, a_localization):
    transform = linear_transform(a_scene, np.eye(4))
    a_volume_node.SetAndObserveTransformNodeID(transform.GetID())
    nodes = show_localization(a_volume_node, a_localization)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(ROTATION))
    moved = (ROTATION @ (*CARINA, 1.0))[:3]
    np.testing.assert_allclose(nodes.points_node.GetNthControlPointPositionWorld(0), moved)
    center = [0.0, 0.0, 0.0]
    nodes.roi_nodes["liver box"].GetCenterWorld(center)
    np.testing.assert_allclose(center, (ROTATION @ (*LIVER_BOX.center, 1.0))[:3])


def test_table_lists_everything_with_empty_cells_for_what_is_missing(a_volume_node, a_localization):
    table = show_localization(a_volume_node, a_localization).table_node
    carina, _, bladder, liver, uterus = rows(table)
    assert carina[:8] == ["carina", "landmark", "found", "5.0", "0.0", "60.0", "3.2", "1.5"]
    assert bladder[:8] == ["bladder", "landmark", "not found", "", "", "", "80.0", "40.0"]
    assert liver[:8] == ["liver box", "organ", "found", "70.0", "10.0", "-45.0", "5.5", "2.0"]
    assert liver[8] == "SCT 10200004 Liver"
    assert uterus[2:6] == ["not found", "", "", ""]
    assert "outside the scan" in uterus[9]


def test_all_nodes_lie_in_one_folder_under_the_study(a_scene, a_volume_node, a_localization, an_embedding_map):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(a_scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(a_volume_node), hierarchy.CreateFolderItem(study, "series"))
    nodes = show_localization(a_volume_node, a_localization, an_embedding_map)
    assert hierarchy.GetItemParent(nodes.folder_item_id) == study
    for node in (nodes.points_node, nodes.table_node, nodes.overlay_node, *nodes.roi_nodes.values()):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == nodes.folder_item_id


def test_second_run_gets_its_own_folder_and_names(a_scene, a_volume_node, a_localization):
    first = show_localization(a_volume_node, a_localization)
    second = show_localization(a_volume_node, a_localization)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(a_scene)
    assert hierarchy.GetItemName(first.folder_item_id) == "torso landmarks"
    assert hierarchy.GetItemName(second.folder_item_id) == "torso landmarks 2"
    assert first.points_node.GetName() != second.points_node.GetName()


def test_names_that_became_free_are_used_again(a_scene, a_volume_node, a_localization):
    for _run in range(3):
        nodes = show_localization(a_volume_node, a_localization)
        names = nodes.points_node.GetName(), nodes.table_node.GetName(), nodes.roi_nodes["liver box"].GetName()
        assert names == ("torso landmarks", "torso landmark table", "liver box")
        for node in (nodes.points_node, nodes.table_node, *nodes.roi_nodes.values()):
            a_scene.RemoveNode(node)


def test_what_is_said_of_a_box_outlives_slicers_own_description(a_scene, a_volume_node, a_localization):
    roi = show_localization(a_volume_node, a_localization).roi_nodes["liver box"]
    overwrite_descriptions(a_scene)
    assert roi.GetDescription() == "volume: 1.0cm3"
    assert "round trip 5.5 mm" in roi.GetNthControlPointDescription(0)


def test_users_nodes_keep_their_names(a_scene, a_volume_node, a_localization):
    mine = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "liver box")
    before = mine.GetMTime()
    roi = show_localization(a_volume_node, a_localization).roi_nodes["liver box"]
    assert mine.GetName() == "liver box" and mine.GetMTime() == before
    assert roi is not mine and roi.GetName() != "liver box"


@pytest.mark.parametrize("error", [RuntimeError("disk full"), Cancelled(), KeyboardInterrupt()])
def test_failed_run_leaves_nothing_behind(a_scene, a_volume_node, a_localization, an_embedding_map, monkeypatch, error):
    show_localization(a_volume_node, a_localization, an_embedding_map)
    before = contents(a_scene)

    def fail(*_):
        raise error

    monkeypatch.setattr(results, "put_in_folder", fail)
    with pytest.raises(type(error)):
        show_localization(a_volume_node, a_localization, an_embedding_map)
    assert contents(a_scene) == before


def test_scan_under_a_bent_transform_is_refused_before_anything_is_made(a_scene, a_volume_node, a_localization):
    a_volume_node.SetAndObserveTransformNodeID(bent_transform(a_scene).GetID())
    before = contents(a_scene)
    with raises("(?i)harden"):
        show_localization(a_volume_node, a_localization)
    assert contents(a_scene) == before


def test_nothing_found_is_a_result_too(a_volume_node, a_localization):
    empty = replace(a_localization, points=a_localization.points[2:], organs=())
    nodes = show_localization(a_volume_node, empty)
    assert nodes.points_node.GetNumberOfDefinedControlPoints() == 0
    assert nodes.roi_nodes == {} and nodes.overlay_node is None


def test_confidence_that_is_not_known_is_not_shown_as_a_number(a_volume_node, a_localization):
    point = replace(located("apex", (1.0, 2.0, 3.0)), round_trip_mm=float("nan"))
    nodes = show_localization(a_volume_node, replace(a_localization, points=(point,), organs=()))
    assert nodes.points_node.GetNthControlPointDescription(0) == "found"
    assert rows(nodes.table_node)[0][6] == ""


def test_stretched_box_keeps_its_size_in_world(a_scene, a_volume_node, a_localization):
    a_volume_node.SetAndObserveTransformNodeID(linear_transform(a_scene, STRETCH).GetID())
    box = Box((-10.0, -20.0, -30.0), (10.0, 20.0, 30.0))
    nodes = show_localization(a_volume_node, replace(a_localization, organs=(located_box("heart", box),)))
    size = [0.0, 0.0, 0.0]
    nodes.roi_nodes["heart"].GetSizeWorld(size)
    np.testing.assert_allclose(size, box.size)
