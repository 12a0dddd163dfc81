"""The nodes of a run: whose scan they belong to, what they are called, and what a user can do to them."""

from dataclasses import replace

import numpy as np
import pytest
import slicer

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.scene.references import RUN_ATTRIBUTE, SCAN_REFERENCE
from APELocalizerLib.scene.results import POINT_COLOR, folder_title, points_title, show_localization, table_title
from made_up.nodes import LIVER, linear_transform, located, located_box

GREEN, BLUE = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def hierarchy_of(scene):
    return slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)


def test_every_result_leads_back_to_its_scan(a_volume_node, a_localization):
    nodes = show_localization(a_volume_node, a_localization)
    for node in (nodes.points_node, nodes.table_node, *nodes.roi_nodes.values()):
        assert node.GetNodeReference(SCAN_REFERENCE) is a_volume_node
    assert SCAN_REFERENCE == "APELocalizer.scan", "as it stands in saved scenes"


def test_the_folder_names_the_nodes_of_its_run(a_scene, a_volume_node, a_localization, an_embedding_map):
    nodes = show_localization(a_volume_node, a_localization, an_embedding_map)
    ids = hierarchy_of(a_scene).GetItemAttribute(nodes.folder_item_id, RUN_ATTRIBUTE).split(" ")
    expected = [nodes.points_node, *nodes.roi_nodes.values(), nodes.table_node, nodes.overlay_node]
    assert ids == [node.GetID() for node in expected]
    assert RUN_ATTRIBUTE == "APELocalizer.Results", "as it stands in saved scenes"


def test_an_earlier_overlay_is_used_again_and_stays_where_it_is(
    a_scene, a_volume_node, a_localization, an_embedding_map
):
    first = show_localization(a_volume_node, a_localization, an_embedding_map)
    second = show_localization(a_volume_node, a_localization, an_embedding_map, overlay_node=first.overlay_node)
    hierarchy = hierarchy_of(a_scene)
    assert second.overlay_node is first.overlay_node
    item = hierarchy.GetItemByDataNode(first.overlay_node)
    assert hierarchy.GetItemParent(item) == first.folder_item_id
    assert first.overlay_node.GetID() not in hierarchy.GetItemAttribute(second.folder_item_id, RUN_ATTRIBUTE)
    assert show_localization(a_volume_node, a_localization).overlay_node is None


def test_a_folder_lies_beside_a_scan_without_a_study(a_scene, a_volume_node, a_localization):
    hierarchy = hierarchy_of(a_scene)
    inside = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "my folder")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(a_volume_node), inside)
    nodes = show_localization(a_volume_node, a_localization, folder_name="third try")
    assert hierarchy.GetItemParent(nodes.folder_item_id) == inside
    assert hierarchy.GetItemName(nodes.folder_item_id) == "third try"


def test_names_are_counted_up_one_by_one(a_scene, a_volume_node, a_localization):
    runs = [show_localization(a_volume_node, a_localization) for _ in range(3)]
    names = [nodes.points_node.GetName() for nodes in runs]
    assert names == ["torso landmarks", "torso landmarks_1", "torso landmarks_2"]
    folders = [hierarchy_of(a_scene).GetItemName(nodes.folder_item_id) for nodes in runs]
    assert folders == ["torso landmarks", "torso landmarks 2", "torso landmarks 3"]
    titles = folder_title(a_volume_node), points_title(a_volume_node), table_title(a_volume_node)
    assert titles == ("torso landmarks", "torso landmarks", "torso landmark table")


def test_landmarks_are_labeled_as_clinicians_say_them(a_volume_node, a_localization):
    points = (located("lung_apex_right", (1, 2, 3)), replace(located("carina", (1, 2, 4)), found=False))
    node = show_localization(a_volume_node, replace(a_localization, points=points)).points_node
    assert [node.GetNthControlPointLabel(n) for n in range(2)] == ["right lung apex", "carina"]


def test_the_point_list_says_which_model_and_spacing_it_comes_from(a_volume_node, a_localization):
    node = show_localization(a_volume_node, a_localization).points_node
    assert node.GetAttribute("APELocalizer.CheckpointId") == "model@1"
    assert node.GetAttribute("APELocalizer.Spacing") == "standard"


@pytest.mark.parametrize(("colors", "shown"), [((GREEN, GREEN), GREEN), ((GREEN, BLUE), POINT_COLOR)])
def test_the_list_has_the_color_of_its_landmarks_if_they_share_one(a_volume_node, a_localization, colors, shown):
    points = [replace(located(f"point {n}", (n, 0, 0)), color=color) for n, color in enumerate(colors)]
    node = show_localization(a_volume_node, replace(a_localization, points=tuple(points))).points_node
    assert node.GetDisplayNode().GetColor() == pytest.approx(shown)
    assert node.GetDisplayNode().GetSelectedColor() == pytest.approx(shown)
    assert node.GetDisplayNode().GetPointLabelsVisibility()


def test_a_box_cannot_be_dragged_by_accident_and_shows_its_name_and_no_handle(a_volume_node, a_localization):
    roi = show_localization(a_volume_node, a_localization).roi_nodes["liver box"]
    assert roi.GetLocked() and not roi.GetDisplayNode().GetHandlesInteractive()
    assert roi.GetDisplayNode().GetPropertiesLabelVisibility()
    assert not roi.GetNthControlPointVisibility(0), "it would look like a landmark"


def test_only_an_organ_with_a_code_has_a_term(a_volume_node, a_localization):
    box = Box((0, 0, 0), (10, 10, 10))
    organs = (located_box("liver", box, LIVER), located_box("my region", box))
    rois = show_localization(a_volume_node, replace(a_localization, organs=organs)).roi_nodes
    term = rois["liver"].GetAttribute("Terminologies.TerminologyEntry")
    assert term.split("~")[2] == "SCT^10200004^Liver" and len(term.split("~")) == 7
    assert rois["my region"].GetAttribute("Terminologies.TerminologyEntry") is None


def test_a_box_under_a_mirroring_transform_is_right_handed(a_scene, a_volume_node, a_localization):
    """A mirrored ROI would show its inside outside; its corners are the same either way."""
    mirror = linear_transform(a_scene, np.diag([1.0, -2.0, 1.0, 1.0]))
    a_volume_node.SetAndObserveTransformNodeID(mirror.GetID())
    roi = show_localization(a_volume_node, a_localization).roi_nodes["liver box"]
    axes = slicer.util.arrayFromVTKMatrix(roi.GetObjectToNodeMatrix())[:3, :3]
    assert np.linalg.det(axes) == pytest.approx(1.0)
    np.testing.assert_allclose(roi.GetSize(), (140, 70, 90))
