"""The overlay section: what the slice views show."""

import pytest
import slicer

from APELocalizerLib.scene.choices import Overlay
from APELocalizerLib.scene.headless import load_scene, save_scene


def choose(panel, overlay: Overlay) -> None:
    panel.ui.overlayComboBox.currentIndex = list(Overlay).index(overlay)


def layers(scene) -> tuple:
    """Background, foreground and opacity of the red slice view."""
    composite = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    ids = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
    return (*(scene.GetNodeByID(node_id or "") for node_id in ids), composite.GetForegroundOpacity())


@pytest.fixture
def localized(panel, patient):
    """The panel after patient A's landmarks were found on patient A."""
    panel.learn(patient)
    panel.localize(patient.volume)
    return panel


def test_the_map_is_drawn_over_the_scan_as_soon_as_it_was_localized(localized, patient, scene):
    background, foreground, opacity = layers(scene)
    assert background is patient.volume
    assert foreground.IsA("vtkMRMLVectorVolumeNode") and opacity == pytest.approx(0.4)


def test_the_opacity_slider_changes_only_the_opacity(localized, scene, node_ids):
    before, (_background, overlay, _opacity) = node_ids(), layers(scene)
    localized.ui.opacitySlider.value = 0.8
    assert layers(scene)[1] is overlay and layers(scene)[2] == pytest.approx(0.8)
    assert node_ids() == before


def test_nothing_one_channel_and_back_again_makes_each_overlay_once(localized, scene, node_ids):
    colors = layers(scene)[1]
    choose(localized, Overlay.NONE)
    assert layers(scene)[1] is None
    choose(localized, Overlay.SUPERIOR)
    height = layers(scene)[1]
    assert height is not colors and height.GetImageData().GetNumberOfScalarComponents() == 1
    made = node_ids()
    choose(localized, Overlay.RGB)
    assert layers(scene)[1] is colors
    choose(localized, Overlay.SUPERIOR)
    assert layers(scene)[1] is height and node_ids() == made


def test_the_similarity_follows_the_selected_landmark_in_one_node(localized, scene, node_ids):
    choose(localized, Overlay.SIMILARITY)
    assert layers(scene)[1] is None and "Click a landmark" in localized.ui.overlayHintLabel.text
    assert localized.ui.statusLabel.text.startswith("Found 4 of 4"), "what the run found stays to be read"
    localized.ui.resultTable.cellClicked.emit(0, 0)
    assert "carina" in layers(scene)[1].GetName()
    made = node_ids()
    localized.ui.resultTable.cellClicked.emit(2, 0)
    assert "liver" in layers(scene)[1].GetName() and len(node_ids()) == len(made), node_ids() ^ made


def test_every_overlay_lies_in_the_folder_of_the_results(localized, scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

    def folder_of(node) -> int:
        return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))

    wanted = folder_of(localized.parameters.resultPoints)
    assert hierarchy.GetItemName(wanted) == "patient A landmarks"
    for overlay in (Overlay.RGB, Overlay.SUPERIOR, Overlay.SIMILARITY):
        choose(localized, overlay)
        localized.ui.resultTable.cellClicked.emit(0, 0)
        assert folder_of(layers(scene)[1]) == wanted, overlay


def test_other_settings_than_the_run_had_do_not_matter(localized, scene, messages):
    localized.ui.spacingComboBox.currentIndex = 0
    choose(localized, Overlay.ANTERIOR)
    assert layers(scene)[1] is not None and messages == []


def test_a_map_that_is_gone_is_said(localized, messages):
    localized.click("freeMemoryButton")
    localized.wait(lambda: not localized.session.runner.in_background_now)
    choose(localized, Overlay.RIGHT)
    assert len(messages) == 1 and "Localize" in messages[0]


def test_without_the_overlay_chosen_no_overlay_is_made(panel, patient, scene):
    choose(panel, Overlay.NONE)
    panel.learn(patient)
    panel.localize(patient.volume)
    assert scene.GetNumberOfNodesByClass("vtkMRMLVectorVolumeNode") == 0


def test_a_loaded_result_is_left_as_it_was_saved_and_its_colors_can_be_chosen(localized, scene, messages, tmp_path):
    save_scene(tmp_path / "saved.mrb")
    scene.Clear(0)
    localized.session.set_library(None, "")
    load_scene(tmp_path / "saved.mrb")
    localized.wait()
    assert messages == [] and len(localized.rows()) == 4
    assert localized.session.library.names == ("carina", "heart", "liver", "spleen")
    choose(localized, Overlay.NONE)
    choose(localized, Overlay.RGB)
    assert messages == [] and layers(scene)[1].IsA("vtkMRMLVectorVolumeNode")
