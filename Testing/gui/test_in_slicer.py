"""What the application does that a scene alone does not: see the stand-ins' own descriptions."""

from types import SimpleNamespace

import pytest
import qt
import slicer
import slicer.util

from APELocalizerLib.core.library.files import load_library
from APELocalizerLib.scene import setup_status
from APELocalizerLib.scene.run_settings import scan_key


def test_closing_the_scene_empties_the_list_of_clicks(panel, patient, scene):
    panel.learn(patient)
    assert panel.ui.pointsWidget.names() == ["carina", "heart", "liver", "spleen"]
    scene.Clear(0)
    assert panel.ui.pointsWidget.names() == []


def test_closing_the_scene_lets_go_of_the_maps(panel, patient, scene, engine):
    panel.learn(patient)
    key = scan_key(patient.volume)
    assert engine.recall(key) is not None
    scene.Clear(0)
    assert engine.recall(key) is None


def test_a_closed_panel_frees_model_and_maps(panel, patient, engine):
    panel.learn(patient)
    assert engine.spacings() is not None
    panel.widget.cleanup()
    panel.wait(lambda: engine.spacings() is None and engine.recall(scan_key(patient.volume)) is None)


def test_a_run_that_ends_while_a_scene_is_loaded_is_no_error(panel, patient, add_patient, scene, messages):
    panel.learn(patient)
    panel.ui.scanSelector.setCurrentNode(add_patient("patient B").volume)
    panel.click("localizeButton")
    scene.InvokeEvent(scene.StartImportEvent)
    panel.wait()
    assert messages == [] and scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1


def test_the_main_button_is_in_view_on_a_small_screen(panel, patient):
    panel.learn(patient)
    assert not panel.ui.learnSection.collapsed
    button, parent = panel.ui.localizeButton, panel.widget.parent
    parent.resize(440, parent.layout().totalHeightForWidth(440))
    panel.wait()
    assert button.mapTo(parent, button.rect.bottomLeft()).y() <= 540, "of 768 pixels Slicer leaves that many"


def test_an_error_is_shown_before_a_panel_that_is_ready_again(panel, patient, add_patient, monkeypatch):
    panel.learn(patient)
    other, seen = add_patient("patient B").volume, []
    panel.embedder.fail_with = ZeroDivisionError("no such luck")
    button = panel.ui.localizeButton
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda *_, **__: seen.append((button.text, button.enabled)))
    panel.localize(other)
    assert seen == [("&Localize", True)]


def test_a_library_that_ends_the_program_ends_only_the_run(panel, patient, add_patient, messages):
    panel.learn(patient)
    other = add_patient("patient B").volume
    panel.embedder.fail_with = SystemExit(3)
    panel.localize(other)
    assert len(messages) == 1 and "SystemExit" in messages[0]
    panel.embedder.fail_with = None
    panel.localize(other)
    assert len(panel.rows()) == 4


def test_nothing_is_drawn_while_results_are_added(panel, patient, add_patient, monkeypatch):
    panel.learn(patient)
    other, events = add_patient("patient B").volume, []
    views = SimpleNamespace(mrmlSliceLogics=lambda: slicer.vtkMRMLSliceLogic and SimpleNamespace(GetNumberOfItems=int))
    views.resetThreeDViews = lambda: events.append("3D")
    views.threeDViewCount = 0
    application = SimpleNamespace(
        pauseRender=lambda: events.append("pause"),
        resumeRender=lambda: events.append("resume"),
        layoutManager=lambda: views,
    )
    monkeypatch.setattr(slicer, "app", application, raising=False)
    monkeypatch.setattr(slicer.util, "resetThreeDViews", views.resetThreeDViews)
    slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, lambda *_: events.append("node"))
    panel.localize(other)
    assert "node" in events and events.index("pause") < events.index("node")
    depth = 0
    for event in events:
        depth += {"pause": 1, "resume": -1}.get(event, 0)
        assert event != "node" or depth > 0
    assert depth == 0


def test_a_spacing_that_the_model_lacks_cannot_be_chosen(panel, patient):
    box = panel.ui.spacingComboBox
    panel.learn(patient)
    panel.session.changed()
    enabled = [bool(box.model().flags(box.model().index(row, 0)) & qt.Qt.ItemIsEnabled) for row in range(3)]
    assert enabled == [True, True, False] and "not with this model" in box.itemText(2)


def test_an_ending_is_added_when_a_library_is_saved_and_no_file_is_replaced_unasked(
    panel, patient, questions, monkeypatch, tmp_path
):
    panel.learn(patient)
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *_: str(tmp_path / "mine")))
    panel.click("saveLibraryButton")
    assert load_library(tmp_path / "mine.json") == panel.session.library and questions.texts == []
    (tmp_path / "mine.json").write_text("something else")
    questions.answers.append(False)
    panel.click("saveLibraryButton")
    assert (tmp_path / "mine.json").read_text() == "something else" and "mine.json" in questions.texts[0]


def test_a_declined_or_failed_installation_is_said(open_panel, monkeypatch):
    calls = []
    manager = SimpleNamespace(interactive=False, installExtensionFromServer=lambda name: calls.append(name))
    panel = open_panel()
    monkeypatch.setattr(slicer, "app", SimpleNamespace(extensionsManagerModel=lambda: manager), raising=False)
    panel.click("torchButton")
    assert calls == ["PyTorch"] and "was not installed" in panel.ui.statusLabel.text


def test_without_an_extensions_manager_the_way_out_is_said(open_panel, messages):
    open_panel().click("torchButton")
    assert len(messages) == 1 and "download.slicer.org" in messages[0]


def test_the_device_of_another_computer_is_named():
    available = setup_status.Available((("auto", "Automatic"), ("cpu", "CPU")), ())
    assert "not available on this computer" in setup_status.device_light(available, "cuda:1").text


@pytest.mark.parametrize("name", ["lung_apex_right", "right lung apex"])
def test_landmarks_are_named_as_clinicians_say_them(panel, patient, add_patient, scene, name):
    patient.points.SetNthControlPointLabel(0, name)
    panel.learn(patient)
    assert "right lung apex" in panel.ui.librarySummaryLabel.text
    panel.ui.overlayComboBox.currentIndex = panel.ui.overlayComboBox.count - 1
    panel.localize(add_patient("patient B").volume)
    assert panel.rows()[0][0] == "right lung apex"
    assert panel.parameters.resultPoints.GetNthControlPointLabel(0) == "right lung apex"
    assert panel.session.library.names[0] == name, "files keep the name"
    panel.ui.resultTable.cellClicked.emit(0, 0)
    assert panel.session.selected_landmark == name
