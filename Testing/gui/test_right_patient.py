"""What protects from confusing two patients: which scan is shown, clicked, searched, and whose results are seen."""

import numpy as np
import pytest
import slicer
import slicer.util

from APELocalizerLib.scene.headless import load_scene, save_scene
from APELocalizerLib.scene.slice_views import show_scan
from made_up.scans import LANDMARKS


@pytest.fixture
def other(panel, patient, add_patient):
    """Patient B, whose scan was loaded last and is in view, while patient A's clicks were learned."""
    panel.learn(patient)
    return add_patient("patient B")


def visible(scene, kind: str = "vtkMRMLMarkupsFiducialNode") -> set[str]:
    """Names of the markups that are visible."""
    return {node.GetName() for node in slicer.util.getNodesByClass(kind) if node.GetDisplayVisibility()}


def place_on(panel, scan, name: str = "carina") -> None:
    """Click a point on a scan, with the point list and patient A as support already chosen."""
    show_scan(scan)
    panel.ui.pointsWidget.place(name, LANDMARKS[name])


# Which scan is clicked on --------------------------------------------------------------------------------------------


def test_choosing_the_support_shows_it(panel, patient, add_patient):
    newest = add_patient("patient B").volume
    assert panel.shown_scan() is newest, "as in Slicer, the scan that was loaded last is in view"
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    assert panel.shown_scan() is patient.volume


def test_opening_the_panel_or_a_scene_leaves_the_views_alone(panel, patient, add_patient, open_panel, tmp_path, scene):
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    newest = add_patient("patient B").volume
    panel.widget.cleanup()
    again = open_panel()
    assert again.ui.supportSelector.currentNode() is patient.volume and again.shown_scan() is newest


def test_a_point_placed_on_another_scan_is_warned_about_at_once(panel, patient, other):
    place_on(panel, other.volume)
    assert "patient B" in panel.ui.statusLabel.text and "patient A" in panel.ui.statusLabel.text


def test_points_clicked_on_another_scan_are_learned_only_after_a_question(panel, patient, other, questions):
    panel.click("newLibraryButton")
    place_on(panel, other.volume, "left kidney")
    questions.answers.append(False)
    panel.click("learnPointsButton")
    assert panel.session.library is None and len(questions.texts) == 1
    assert all(text in questions.texts[0] for text in ("left kidney", "patient A", "patient B"))
    panel.click("learnPointsButton")
    panel.wait()
    assert panel.session.library is not None


def test_points_clicked_on_the_support_are_learned_without_a_question(panel, patient, questions):
    patient.points.RemoveAllControlPoints()
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    panel.ui.pointsSelector.setCurrentNode(patient.points)
    place_on(panel, patient.volume)
    assert panel.ui.statusLabel.text == ""
    panel.learn(patient)
    assert panel.session.library.names == ("carina",) and questions.texts == []


# Which scan is searched ----------------------------------------------------------------------------------------------


def test_no_scan_is_chosen_for_the_user(panel, patient, messages):
    assert panel.ui.scanSelector.currentNode() is None
    panel.learn(patient)
    panel.click("localizeButton")
    assert len(messages) == 1 and "Choose the scan" in messages[0]


def test_searching_the_support_itself_asks_first(panel, patient, questions):
    panel.learn(patient)
    panel.ui.scanSelector.setCurrentNode(patient.volume)
    questions.answers.append(False)
    panel.click("localizeButton")
    assert not panel.session.runner.busy and panel.rows() == [] and "patient A" in questions.texts[0]
    panel.localize(patient.volume)
    assert len(panel.rows()) == 4


@pytest.mark.parametrize("none_enabled", [True, False])
def test_a_loaded_scene_keeps_the_scan_it_was_saved_with(panel, patient, other, scene, tmp_path, none_enabled):
    """Also with selectors that choose a node by themselves while the scene is still being loaded."""
    panel.ui.scanSelector.setCurrentNode(other.volume)
    for selector in (panel.ui.scanSelector, panel.ui.supportSelector):
        selector.setProperty("noneEnabled", none_enabled)
    save_scene(tmp_path / "saved.mrb")
    scene.Clear(0)
    load_scene(tmp_path / "saved.mrb")
    assert panel.parameters.scan.GetName() == "patient B" and panel.parameters.support.GetName() == "patient A"


def test_overlays_are_not_offered_as_scans(panel, other):
    panel.localize(other.volume)
    panel.ui.overlayComboBox.currentIndex = 4  # one channel, a scalar volume like a CT
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") > 3
    for selector in (panel.ui.scanSelector, panel.ui.supportSelector):
        assert {node.GetName() for node in selector.offered()} == {"patient A", "patient B"}


# Whose results are seen ----------------------------------------------------------------------------------------------


def test_after_a_run_the_views_go_to_the_result(panel, patient, other):
    show_scan(patient.volume)
    panel.localize(other.volume)
    assert panel.shown_scan() is other.volume
    assert np.allclose(panel.center(), LANDMARKS["carina"], atol=2.0), "the first landmark that was found"


def test_clicks_on_the_support_are_hidden_while_another_scan_is_shown(panel, patient, other, scene):
    panel.localize(other.volume)
    assert "patient A clicks" not in visible(scene)
    show_scan(patient.volume)
    assert "patient A clicks" in visible(scene)


def test_results_of_two_patients_are_never_seen_together(panel, patient, other, scene):
    third = patient.volume
    panel.localize(other.volume)
    panel.localize(third)
    assert "patient A landmarks" in visible(scene) and "patient B landmarks" not in visible(scene)
    show_scan(other.volume)
    assert "patient B landmarks" in visible(scene) and "patient A landmarks" not in visible(scene)


def test_an_overlay_is_not_left_over_another_patients_scan(panel, patient, other, scene):
    panel.localize(other.volume)
    composite = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    assert composite.GetForegroundVolumeID()
    slicer.util.setSliceViewerLayers(background=patient.volume)  # as Slicer's own selector does
    assert not composite.GetForegroundVolumeID()


def test_what_the_user_hid_stays_hidden(panel, patient, other, scene):
    panel.localize(other.volume)
    panel.parameters.resultPoints.SetDisplayVisibility(0)
    show_scan(patient.volume)
    show_scan(other.volume)
    assert "patient B landmarks" not in visible(scene)


def test_a_click_on_a_row_brings_its_scan_back(panel, patient, other):
    panel.localize(other.volume)
    show_scan(patient.volume)
    panel.ui.resultTable.cellClicked.emit(3, 0)
    assert panel.shown_scan() is other.volume and np.allclose(panel.center(), LANDMARKS["spleen"], atol=2.0)


def test_a_run_that_ends_behind_another_module_leaves_its_views_alone(panel, patient, other):
    show_scan(patient.volume)
    panel.widget.exit()
    panel.localize(other.volume)
    assert panel.shown_scan() is patient.volume
    panel.widget.enter()
    assert panel.shown_scan() is other.volume and len(panel.rows()) == 4


# Repeated runs -------------------------------------------------------------------------------------------------------


def result_lists(scene) -> list[str]:
    return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode") if node.GetLocked()]


def test_a_second_run_replaces_the_results_and_keeps_their_names(panel, other, scene):
    panel.localize(other.volume)
    panel.localize(other.volume)
    assert result_lists(scene) == ["patient B landmarks"]
    assert "“patient B landmarks”" in panel.ui.statusLabel.text
    assert scene.GetNumberOfNodesByClass("vtkMRMLVectorVolumeNode") == 1


def test_without_replacing_runs_are_numbered_and_only_the_last_is_seen(panel, other, scene):
    panel.ui.replaceCheckBox.checked = False
    panel.localize(other.volume)
    panel.localize(other.volume)
    assert len(result_lists(scene)) == 2 and "“patient B landmarks 2”" in panel.ui.statusLabel.text
    assert len(visible(scene) & set(result_lists(scene))) == 1


def test_results_that_the_user_unlocked_are_not_removed(panel, other, scene):
    panel.localize(other.volume)
    corrected = panel.parameters.resultPoints
    corrected.SetLocked(False)
    panel.localize(other.volume)
    assert scene.IsNodePresent(corrected) and panel.parameters.resultPoints is not corrected


def test_results_of_another_patient_are_not_removed(panel, patient, other, scene):
    panel.localize(other.volume)
    panel.localize(patient.volume)
    assert sorted(result_lists(scene)) == ["patient A landmarks", "patient B landmarks"]
