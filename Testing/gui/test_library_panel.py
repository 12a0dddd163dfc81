"""The library section: new, open, save, undo; and the library in the scene."""

import pytest
import qt

from APELocalizerLib.core.library import built_in
from APELocalizerLib.core.library.files import load_library, save_library
from APELocalizerLib.scene.wording import library_summary


@pytest.fixture
def choose_file(monkeypatch):
    """Answers the next file dialogs with a path."""

    def choose(path) -> None:
        for dialog in ("getOpenFileName", "getSaveFileName"):
            monkeypatch.setattr(qt.QFileDialog, dialog, staticmethod(lambda *_: str(path)))

    return choose


def test_an_empty_library_says_what_to_do(panel):
    assert "Learn" in panel.ui.librarySummaryLabel.text
    assert not panel.ui.saveLibraryButton.enabled and not panel.ui.undoLibraryButton.enabled
    assert panel.ui.openLibraryButton.enabled


def test_a_library_is_saved_and_opened_again(panel, patient, choose_file, tmp_path):
    panel.learn(patient)
    choose_file(tmp_path / "mine.json")
    panel.click("saveLibraryButton")
    assert load_library(tmp_path / "mine.json") == panel.session.library
    panel.click("newLibraryButton")
    assert panel.session.library is None
    panel.click("openLibraryButton")
    assert panel.session.library.names == ("carina", "heart", "liver", "spleen")
    assert "4 landmarks" in panel.ui.librarySummaryLabel.text


def test_a_damaged_file_is_refused_and_the_library_stays(panel, patient, choose_file, messages, tmp_path):
    panel.learn(patient)
    before = panel.session.library
    (tmp_path / "broken.json").write_text("{}")
    choose_file(tmp_path / "broken.json")
    panel.click("openLibraryButton")
    assert len(messages) == 1 and "broken.json" in messages[0]
    assert panel.session.library is before


def test_a_closed_file_dialog_changes_nothing(panel, patient, choose_file):
    panel.learn(patient)
    before = panel.session.library
    choose_file("")
    panel.click("openLibraryButton")
    panel.click("saveLibraryButton")
    assert panel.session.library is before


def test_undo_goes_back_step_by_step(panel, patient):
    panel.learn(patient)
    patient.points.SetNthControlPointLabel(0, "tracheal bifurcation")
    panel.learn(patient)
    assert "tracheal bifurcation" in panel.session.library.names
    panel.click("undoLibraryButton")
    assert panel.session.library.names == ("carina", "heart", "liver", "spleen")
    panel.click("undoLibraryButton")
    assert panel.session.library is None and not panel.ui.undoLibraryButton.enabled


def test_every_change_is_kept_in_the_scene_and_comes_back_with_the_panel(panel, patient, open_panel):
    panel.learn(patient)
    library = panel.session.library
    panel.widget.cleanup()
    assert open_panel().session.library == library


def test_a_library_of_a_loaded_scene_replaces_the_one_in_use_until_undo(panel, patient, scene):
    panel.learn(patient)
    mine = panel.session.library
    panel.session.logic.storeLibrary(mine.renamed("carina", "theirs"))
    scene.InvokeEvent(scene.EndImportEvent)
    assert "theirs" in panel.session.library.names
    panel.click("undoLibraryButton")
    assert panel.session.library == mine


def test_the_built_in_library_is_offered_where_there_is_one(panel, patient, monkeypatch, tmp_path):
    panel.learn(patient)
    library = panel.session.library
    monkeypatch.setattr(built_in, "LIBRARIES", tmp_path)
    panel.session.changed()
    assert not panel.ui.builtInLibraryButton.visible
    save_library(library.renamed("heart", "built in"), tmp_path / "torso.json")
    panel.session.changed()
    assert panel.ui.builtInLibraryButton.visible
    panel.click("builtInLibraryButton")
    assert "built in" in panel.session.library.names


def test_a_long_library_is_summarized(panel, patient):
    panel.learn(patient)
    library = panel.session.library
    for number in range(20):
        for landmark in library.landmarks[:1]:
            renamed = library.renamed(landmark.name, f"landmark {number}").landmark(f"landmark {number}")
        library = library.with_landmark(renamed)
    assert library_summary(library).startswith("24 landmarks") and library_summary(library).endswith("…")
    panel.session.set_library(library, "")
    tip = panel.ui.librarySummaryLabel.toolTip
    assert all(name in tip for name in library.names), "all names can be read"


def test_a_library_of_another_model_is_refused_before_the_scan_is_embedded(panel, patient, add_patient, messages):
    panel.learn(patient)
    other = add_patient("patient B").volume
    panel.parameters.model = "another"
    panel.embedder.embedded.clear()
    panel.localize(other)
    assert len(messages) == 1 and "knowing default" in messages[0] and "knowing another" in messages[0]
    assert panel.embedder.embedded == [] and panel.rows() == []


# One landmark or organ ------------------------------------------------------------------------------------------------


def choose_entry(panel, name: str) -> None:
    texts = [panel.ui.libraryEntryComboBox.itemText(n) for n in range(panel.ui.libraryEntryComboBox.count)]
    panel.ui.libraryEntryComboBox.currentIndex = texts.index(name)


def test_a_landmark_is_renamed_and_undo_takes_it_back(panel, patient):
    panel.learn(patient)
    choose_entry(panel, "heart")
    assert panel.ui.libraryEntryEdit.text == "heart" and not panel.ui.renameEntryButton.enabled
    panel.ui.libraryEntryEdit.text = "  cor "
    panel.click("renameEntryButton")
    assert set(panel.session.library.names) == {"carina", "cor", "liver", "spleen"}
    assert panel.ui.libraryEntryEdit.text == "cor" and "“heart” is now called “cor”" in panel.session.status
    panel.click("undoLibraryButton")
    assert "heart" in panel.session.library.names and "cor" not in panel.session.library.names


def test_a_name_that_is_taken_is_refused_and_nothing_changes(panel, patient, messages):
    panel.learn(patient)
    before = panel.session.library
    choose_entry(panel, "heart")
    panel.ui.libraryEntryEdit.text = "liver"
    panel.click("renameEntryButton")
    assert panel.session.library is before and len(messages) == 1 and "liver" in messages[0]
    choose_entry(panel, "liver")
    choose_entry(panel, "heart")
    assert panel.ui.libraryEntryEdit.text == "heart", "the list still says what the library holds"


def test_a_landmark_is_removed_and_undo_brings_it_back(panel, patient):
    panel.learn(patient)
    choose_entry(panel, "spleen")
    panel.click("removeEntryButton")
    assert panel.session.library.names == ("carina", "heart", "liver")
    assert panel.ui.libraryEntryComboBox.count == 3
    panel.click("undoLibraryButton")
    assert panel.session.library.names == ("carina", "heart", "liver", "spleen")


def test_an_empty_library_offers_nothing_to_rename(panel, patient):
    assert not panel.ui.renameEntryButton.visible and not panel.ui.removeEntryButton.visible
    panel.learn(patient)
    for _ in range(4):
        panel.click("removeEntryButton")
    assert panel.ui.libraryEntryComboBox.count == 0 and not panel.ui.removeEntryButton.enabled
