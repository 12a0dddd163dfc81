"""Overlays show the map where it belongs, in the right colors, and only inside the body."""

import numpy as np
import pytest
import slicer
import slicer.util

from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.scene import overlays
from APELocalizerLib.scene.headless import add_volume
from APELocalizerLib.scene.overlays import (
    add_channel_overlay,
    add_rgb_overlay,
    add_similarity_overlay,
    show_in_slices,
)
from APELocalizerLib.scene.volumes import ijk_to_world
from made_up.grids import grid_to_ras
from made_up.maps import torso_map
from made_up.nodes import ROTATION, STRETCH, contents, linear_transform, raises
from made_up.scans import body_phantom

LIVER = (70.0, 10.0, -45.0)


def voxel_at(node, point_ras):
    """Value of the voxel nearest to a RAS world position."""
    index = np.rint(apply_affine(np.linalg.inv(ijk_to_world(node)), [point_ras])[0]).astype(int)
    return slicer.util.arrayFromVolume(node)[tuple(index[::-1])]


def test_colors_grow_to_the_right_front_and_top(a_volume_node, an_embedding_map):
    node = add_rgb_overlay(a_volume_node, an_embedding_map)
    assert node.IsA("vtkMRMLVectorVolumeNode") and node.GetImageData().GetNumberOfScalarComponents() == 3
    right, left = voxel_at(node, (130, 0, 0)), voxel_at(node, (-130, 0, 0))
    front, back = voxel_at(node, (0, 80, 0)), voxel_at(node, (0, -80, 0))
    top, bottom = voxel_at(node, (0, 0, 90)), voxel_at(node, (0, 0, -90))
    assert right[0] > left[0] + 100 and front[1] > back[1] + 100 and top[2] > bottom[2] + 100
    assert abs(int(right[1]) - int(left[1])) < 10 and abs(int(right[2]) - int(left[2])) < 10


def test_air_and_table_have_no_color_but_lungs_and_bowel_gas_have(a_volume_node, an_embedding_map):
    node = add_rgb_overlay(a_volume_node, an_embedding_map)
    assert not voxel_at(node, (190, 110, 0)).any()
    assert not voxel_at(node, (0, -126, 0)).any()
    assert (voxel_at(node, (75, 5, 55)) >= overlays.DARKEST).all()
    assert (voxel_at(node, (-50, 45, -60)) >= overlays.DARKEST).all()


def test_threshold_hides_air_and_shows_every_body_voxel(a_volume_node, an_embedding_map):
    node = add_rgb_overlay(a_volume_node, an_embedding_map)
    display, intensity = node.GetDisplayNode(), slicer.util.arrayFromVolume(node).mean(axis=-1)
    assert display.GetApplyThreshold()
    assert 0 < display.GetLowerThreshold() < intensity[intensity > 0].min()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 255.0)


def test_two_scans_can_share_their_colors(a_volume_node, an_embedding_map):
    ranges = ((-400.0, 400.0), (-300.0, 300.0), (-200.0, 200.0))
    node = add_rgb_overlay(a_volume_node, an_embedding_map, ranges=ranges)
    span = 255.0 - overlays.DARKEST
    expected = [
        overlays.DARKEST + span * (p - low) / (high - low) for p, (low, high) in zip(LIVER, ranges, strict=True)
    ]
    np.testing.assert_allclose(voxel_at(node, LIVER), expected, atol=5)
    assert node.GetAttribute(overlays.RANGES_ATTRIBUTE) == "-400 400 -300 300 -200 200"


@pytest.mark.parametrize("matrix", [np.eye(4), ROTATION, STRETCH], ids=["still", "rotated", "stretched"])
def test_channel_shows_the_maps_value_at_each_place(a_scene, a_volume_node, matrix):
    a_volume_node.SetAndObserveTransformNodeID(linear_transform(a_scene, matrix).GetID())
    node = add_channel_overlay(a_volume_node, torso_map(matrix), 2)
    for point in (LIVER, (-30.0, -20.0, 80.0), (0.0, 50.0, 0.0)):
        world = (matrix @ (*point, 1.0))[:3]
        assert voxel_at(node, world) == pytest.approx(
            point[2], abs=4.0
        )  # the nearest voxel's center is up to 2.5 mm off


def test_overlay_moves_with_the_scan(a_scene, a_volume_node, an_embedding_map):
    transform = linear_transform(a_scene, np.eye(4))
    a_volume_node.SetAndObserveTransformNodeID(transform.GetID())
    node = add_rgb_overlay(a_volume_node, an_embedding_map)
    before = voxel_at(node, LIVER)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(ROTATION))
    np.testing.assert_array_equal(voxel_at(node, (ROTATION @ (*LIVER, 1.0))[:3]), before)


def test_channel_window_covers_the_body_and_air_is_below_the_threshold(a_volume_node, an_embedding_map):
    node = add_channel_overlay(a_volume_node, an_embedding_map, 0)
    display = node.GetDisplayNode()
    assert -175 < display.GetWindowLevelMin() < -130 and 130 < display.GetWindowLevelMax() < 175
    assert voxel_at(node, (190, 110, 0)) < display.GetLowerThreshold() <= voxel_at(node, (-160, 0, 0))
    assert display.GetApplyThreshold()


def test_channels_that_do_not_exist_are_refused(a_volume_node, an_embedding_map):
    with raises("no channel 3"):
        add_channel_overlay(a_volume_node, an_embedding_map, 3)


def test_similarity_is_highest_at_the_landmark(a_volume_node, an_embedding_map):
    node = add_similarity_overlay(a_volume_node, an_embedding_map, LIVER, "liver")
    values = slicer.util.arrayFromVolume(node)
    best = np.unravel_index(values.argmax(), values.shape)[::-1]
    np.testing.assert_allclose(apply_affine(ijk_to_world(node), [best])[0], LIVER, atol=5)
    assert values.max() > 0.9
    assert node.GetName() == "torso similarity to liver"


def test_similarity_is_transparent_where_it_is_low(a_volume_node, an_embedding_map):
    node = add_similarity_overlay(a_volume_node, an_embedding_map, LIVER, "liver")
    display = node.GetDisplayNode()
    assert voxel_at(node, (-130, 0, 50)) < display.GetLowerThreshold() < voxel_at(node, (90, 10, -45))
    assert display.GetApplyThreshold()


def test_color_tables_are_made_once(a_scene, a_volume_node, an_embedding_map):
    nodes = [add_channel_overlay(a_volume_node, an_embedding_map, channel) for channel in (0, 1)]
    assert nodes[0].GetDisplayNode().GetColorNodeID() == nodes[1].GetDisplayNode().GetColorNodeID()
    table = nodes[0].GetDisplayNode().GetColorNode().GetLookupTable()
    luminance = [np.dot(table.GetTableValue(i)[:3], (0.21, 0.72, 0.07)) for i in range(0, 256, 15)]
    assert np.all(np.diff(luminance) > 0), "a perceptually uniform table brightens all the way"


def test_overlay_of_a_fine_scan_stays_small(a_scene, an_embedding_map):
    affine = grid_to_ras((160, 60, 12), (0.7, 0.7, 5.0))
    scan = body_phantom((160, 60, 12), ijk_to_ras=affine)
    node = add_rgb_overlay(add_volume(scan.voxels, affine, "fine"), an_embedding_map)
    assert node.GetImageData().GetDimensions() == (40, 15, 12)
    np.testing.assert_allclose(node.GetSpacing(), (2.8, 2.8, 5.0))
    middle = apply_affine(ijk_to_world(node), [(19.5, 7, 5.5)])[0]
    np.testing.assert_allclose(middle, (0, 0, 0), atol=1.1)


def test_overlay_lies_beside_the_scan(a_scene, a_volume_node, an_embedding_map):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(a_scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(a_volume_node), study)
    node = add_rgb_overlay(a_volume_node, an_embedding_map)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_map_of_another_place_is_refused_and_leaves_nothing(a_scene, a_volume_node):
    before = contents(a_scene)
    far = np.eye(4)
    far[2, 3] = 9000.0
    a_volume_node.SetAndObserveTransformNodeID(None)
    image = slicer.util.arrayFromVolume(a_volume_node)
    image[:] = -1000
    image[3] = -100
    image[0, 0, 0] = 40
    with raises("does not belong to this scan"):
        add_rgb_overlay(a_volume_node, torso_map(far))
    assert contents(a_scene) == before


def test_failure_half_way_leaves_nothing(a_scene, a_volume_node, an_embedding_map, monkeypatch):
    before = contents(a_scene)

    def fail(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(overlays, "_hide_below", fail)
    for add in (add_rgb_overlay, lambda *a: add_channel_overlay(*a, 0)):
        with pytest.raises(RuntimeError):
            add(a_volume_node, an_embedding_map)
    assert contents(a_scene) == before


def test_show_in_slices_puts_it_over_the_scan_everywhere(a_scene, a_volume_node, an_embedding_map):
    node = add_rgb_overlay(a_volume_node, an_embedding_map)
    show_in_slices(node, 0.3)
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert len(views) == 3
    assert {view.GetForegroundVolumeID() for view in views} == {node.GetID()}
    assert {view.GetBackgroundVolumeID() for view in views} == {a_volume_node.GetID()}
    assert {view.GetForegroundOpacity() for view in views} == {0.3}
    show_in_slices(None)
    assert {view.GetForegroundVolumeID() for view in views} == {None}
