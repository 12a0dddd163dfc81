"""Clicking through the real panel: learn, find, cancel, and all that can go wrong meanwhile."""

import time

import numpy as np
import pytest
import qt
import slicer
import slicer.util

from made_up.scans import LANDMARKS


@pytest.fixture
def other(panel, patient, add_patient):
    """Another patient's scan, selected to be searched, while the library holds patient A's landmarks."""
    panel.learn(patient)
    volume = add_patient("patient B").volume
    panel.ui.scanSelector.setCurrentNode(volume)
    panel.embedder.started.clear()
    return volume


def test_landmarks_clicked_on_one_scan_are_found_on_another(panel, patient, add_patient):
    other = add_patient("patient B")
    panel.learn(patient)
    assert "4 landmarks" in panel.ui.librarySummaryLabel.text
    panel.localize(other.volume)
    rows = panel.rows()
    assert [row[0] for row in rows] == ["carina", "heart", "liver", "spleen"]
    assert not any("not found" in row[1] for row in rows)
    for name, _status, _error, round_trip, *position in rows:  # the same body: each landmark is where it was clicked
        assert np.allclose([float(value) for value in position], LANDMARKS[name], atol=2.0)
        assert float(round_trip) < 2.0
    points = panel.parameters.resultPoints
    assert points.GetNumberOfControlPoints() == 4
    assert panel.ui.statusLabel.text.startswith("Found 4 of 4") and "patient B landmarks" in panel.ui.statusLabel.text


def test_what_had_to_be_done_differently_is_said(panel, other):
    panel.embedder.notes = ("Memory ran out: smaller tiles were used.",)
    panel.click("localizeButton")
    panel.wait()
    assert "⚠ Memory ran out: smaller tiles were used." in panel.ui.warningsLabel.text.splitlines()
    panel.click("localizeButton")
    assert panel.ui.warningsLabel.text == "", "a new run begins without the old one's warnings"
    panel.wait()


def clipped(volume) -> None:
    """Cut the values of a scan off at a soft-tissue window, as viewers export it."""
    voxels = slicer.util.arrayFromVolume(volume)
    np.clip(voxels, -160, 240, out=voxels)
    slicer.util.arrayFromVolumeModified(volume)


def test_doubtful_values_of_a_scan_are_said_after_the_run(panel, other):
    clipped(other)
    panel.click("localizeButton")
    panel.wait()
    assert panel.ui.statusLabel.text.startswith("Found") and panel.ui.warningsLabel.visible
    assert "-160" in panel.ui.warningsLabel.text and "240" in panel.ui.warningsLabel.text


def test_doubtful_values_of_the_support_are_said_after_learning(panel, patient):
    clipped(patient.volume)
    panel.learn(patient)
    assert panel.session.library is not None and "-160" in panel.ui.warningsLabel.text


def test_a_click_on_a_row_moves_all_slices_there(panel, patient, scene):
    panel.learn(patient)
    panel.localize(patient.volume)
    panel.ui.resultTable.cellClicked.emit(3, 0)
    for color in ("Red", "Yellow", "Green"):
        to_ras = slicer.util.arrayFromVTKMatrix(scene.GetNodeByID(f"vtkMRMLSliceNode{color}").GetSliceToRAS())
        assert np.allclose(to_ras[:3, 3], LANDMARKS["spleen"], atol=2.0)


def test_a_row_that_was_not_found_says_why_and_moves_nothing(panel, patient, scene):
    panel.learn(patient)
    panel.localize(patient.volume)
    panel.parameters.resultTable.GetTable().GetColumnByName("Status").SetValue(1, "not found")
    panel.parameters.resultTable.GetTable().GetColumnByName("Note").SetValue(1, "outside the field of view")
    panel.parameters.resultTable.Modified()
    panel.session.changed()
    before = slicer.util.arrayFromVTKMatrix(scene.GetNodeByID("vtkMRMLSliceNodeRed").GetSliceToRAS())
    panel.ui.resultTable.cellClicked.emit(1, 0)
    after = slicer.util.arrayFromVTKMatrix(scene.GetNodeByID("vtkMRMLSliceNodeRed").GetSliceToRAS())
    assert np.allclose(before, after)
    assert "not found" in panel.rows()[1][1]
    note, status = panel.ui.resultNoteLabel.text, panel.ui.statusLabel.text
    assert "heart" in note and "outside the field of view" in note and status.startswith("Found 4 of 4")
    panel.ui.resultTable.cellClicked.emit(0, 0)
    assert not panel.ui.resultNoteLabel.visible, "what is said of one row does not stay for another"


def test_the_panel_stays_alive_and_shows_progress_while_it_works(panel, other):
    panel.embedder.gate.clear()
    ticks, seen = [], set()
    timer = qt.QTimer()
    timer.interval = 5
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start()
    panel.click("localizeButton")
    assert panel.ui.localizeButton.text == "Cancel"
    panel.wait(lambda: seen.add(panel.ui.progressBar.value) or (len(ticks) > 20 and max(seen) > 0))
    assert panel.ui.progressBar.visible and panel.ui.statusLabel.text == "Tile 5 of 10"
    assert not panel.ui.learnPointsButton.enabled and not panel.ui.learnOrgansButton.enabled
    assert not panel.ui.openLibraryButton.enabled and not panel.ui.modelComboBox.enabled
    assert np.diff(ticks).max() < 2.0
    panel.embedder.gate.set()
    panel.wait()
    assert not panel.ui.progressBar.visible and panel.ui.localizeButton.text == "&Localize"
    assert panel.ui.learnPointsButton.enabled and len(panel.rows()) == 4


def test_cancel_leaves_no_node(panel, other, node_ids, messages):
    before = node_ids()
    panel.embedder.gate.clear()
    panel.click("localizeButton")
    panel.wait(panel.embedder.started.is_set)
    panel.click("localizeButton")
    assert not panel.ui.localizeButton.enabled and panel.ui.localizeButton.text == "Canceling…"
    panel.wait()
    assert node_ids() == before and messages == []
    assert panel.ui.statusLabel.text == "Canceled. Nothing was changed."
    panel.embedder.gate.set()
    panel.localize(other)
    assert len(panel.rows()) == 4


def test_a_cancelled_learning_leaves_the_library_as_it_was(panel, patient):
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    panel.ui.pointsSelector.setCurrentNode(patient.points)
    panel.embedder.gate.clear()
    panel.click("learnPointsButton")
    assert panel.ui.learnPointsButton.text == "Cancel" and not panel.ui.localizeButton.enabled
    panel.click("learnPointsButton")
    panel.wait()
    assert panel.session.library is None and not panel.session.can_undo


def test_closing_the_scene_while_a_task_runs_drops_it(panel, other, scene, messages):
    panel.embedder.gate.clear()
    panel.click("localizeButton")
    scene.Clear(0)
    assert not panel.session.runner.busy
    panel.embedder.gate.set()
    panel.wait(lambda: True)
    time.sleep(0.2)
    panel.wait(lambda: True)
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    assert messages == [] and panel.rows() == []
    assert panel.session.library is not None, "the library is no patient's: it stays for the next scan"


def test_after_the_scene_was_closed_the_next_patient_can_be_searched(panel, patient, scene, add_patient):
    panel.learn(patient)
    scene.Clear(0)
    panel.localize(add_patient("patient B").volume)
    assert len(panel.rows()) == 4


def test_a_scan_removed_meanwhile_is_said_and_leaves_nothing(panel, other, scene, node_ids, messages):
    panel.embedder.gate.clear()
    panel.click("localizeButton")
    scene.RemoveNode(other)
    before = node_ids()
    panel.embedder.gate.set()
    panel.wait()
    assert len(messages) == 1 and "patient B" in messages[0] and "removed" in messages[0]
    assert node_ids() == before


def test_a_scan_moved_meanwhile_is_said_and_leaves_nothing(panel, other, node_ids, messages):
    panel.embedder.gate.clear()
    panel.click("localizeButton")
    other.SetOrigin(1.0, 2.0, 3.0)
    before = node_ids()
    panel.embedder.gate.set()
    panel.wait()
    assert len(messages) == 1 and "moved" in messages[0]
    assert node_ids() == before


def test_an_unexpected_error_is_shown_and_leaves_nothing(panel, other, node_ids, messages):
    before = node_ids()
    panel.embedder.fail_with = ZeroDivisionError("no such luck")
    panel.click("localizeButton")
    panel.wait()
    assert len(messages) == 1 and "no such luck" in messages[0]
    assert node_ids() == before and panel.ui.localizeButton.enabled


@pytest.mark.parametrize(
    ("button", "words"),
    [
        ("localizeButton", ("library is empty",)),
        ("learnPointsButton", ("support",)),
        ("learnOrgansButton", ("support",)),
    ],
)
def test_what_is_missing_is_said(panel, messages, node_ids, button, words):
    before = node_ids()
    panel.click(button)
    panel.wait()
    assert len(messages) == 1 and all(word in messages[0] for word in words)
    assert node_ids() == before


def test_a_missing_scan_or_point_list_is_said(panel, patient, scene, messages):
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    panel.click("learnPointsButton")
    assert "point list" in messages[-1]
    panel.learn(patient)
    scene.RemoveNode(patient.volume)
    panel.click("localizeButton")
    assert "Choose the scan" in messages[-1] and len(messages) == 2


def test_choices_are_kept_in_the_scene_and_shown_when_the_panel_opens_again(panel, patient, open_panel):
    panel.ui.spacingComboBox.currentIndex = 0
    panel.ui.opacitySlider.value = 0.7
    panel.ui.supportSelector.setCurrentNode(patient.volume)
    assert panel.parameters.spacing.value == "fast" and panel.session.run_settings().spacing == "fast"
    panel.widget.cleanup()
    again = open_panel()
    assert again.ui.spacingComboBox.currentIndex == 0
    assert again.ui.opacitySlider.value == pytest.approx(0.7)
    assert again.ui.supportSelector.currentNode() is patient.volume
