"""What saved scenes and libraries show of the support patients."""

import zipfile

import pytest
import qt

from APELocalizerLib.core.library.files import load_library
from APELocalizerLib.scene.choices import SupportCTs
from APELocalizerLib.scene.headless import load_scene, save_scene


@pytest.fixture
def learned(panel, patient):
    """The panel after patient A was learned, with a coarse copy of the CT."""
    panel.embedder.with_coarse_ct = True
    panel.learn(patient)
    assert panel.session.library.supports[0].coarse_ct
    return panel


@pytest.fixture
def save_as(learned, monkeypatch):
    """Saves the library under a path by the panel."""

    def save(path) -> None:
        monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *_: str(path)))
        learned.click("saveLibraryButton")

    return save


def choose(panel, choice: SupportCTs) -> None:
    panel.ui.supportCTsComboBox.currentIndex = list(SupportCTs).index(choice)


def content(path) -> bytes:
    """All files of a saved scene, unpacked."""
    with zipfile.ZipFile(path) as bundle:
        return b"".join(bundle.read(name) for name in bundle.namelist())


def coarse_ct(panel) -> bytes:
    return panel.session.library.supports[0].coarse_ct.encode()


def test_a_library_in_no_file_is_saved_whole_with_the_scene_and_the_panel_says_so(learned, tmp_path):
    assert "patient A" in learned.ui.privacyLabel.text and "coarse copy" in learned.ui.privacyLabel.text
    save_scene(tmp_path / "scene.mrb")
    assert coarse_ct(learned) in content(tmp_path / "scene.mrb")


def test_once_the_library_is_a_file_scenes_show_no_support(learned, save_as, tmp_path):
    save_as(tmp_path / "mine.json")
    assert "no copy" in learned.ui.privacyLabel.text
    save_scene(tmp_path / "scene.mrb")
    assert coarse_ct(learned) not in content(tmp_path / "scene.mrb")
    assert str(tmp_path).encode() not in content(tmp_path / "scene.mrb"), "no absolute path either"


def test_after_another_change_the_library_is_in_no_file_again(learned, save_as, patient, tmp_path):
    save_as(tmp_path / "mine.json")
    patient.points.SetNthControlPointLabel(0, "bifurcation")
    learned.learn(patient)
    assert "coarse copy" in learned.ui.privacyLabel.text
    learned.click("undoLibraryButton")
    assert "no copy" in learned.ui.privacyLabel.text, "the former library is in a file"


@pytest.mark.parametrize("choice", [SupportCTs.ALWAYS, SupportCTs.NEVER])
def test_the_choice_in_the_panel_is_kept(learned, save_as, choice, tmp_path):
    if choice is SupportCTs.ALWAYS:
        save_as(tmp_path / "mine.json")
    choose(learned, choice)
    save_scene(tmp_path / "scene.mrb")
    assert (coarse_ct(learned) in content(tmp_path / "scene.mrb")) == (choice is SupportCTs.ALWAYS)


def test_saving_a_library_asks_whether_it_may_show_the_support(learned, save_as, questions, tmp_path):
    questions.answers.append(False)
    save_as(tmp_path / "private.json")
    assert "patient A" in questions.texts[0] and "anatomy" in questions.texts[0]
    assert load_library(tmp_path / "private.json").supports[0].coarse_ct == ""
    assert learned.session.library.supports[0].coarse_ct, "the library in use stays whole"
    assert "coarse copy" in learned.ui.privacyLabel.text, "no file holds the CT"
    save_as(tmp_path / "whole.json")
    assert load_library(tmp_path / "whole.json") == learned.session.library


def test_a_scene_without_the_cts_says_that_it_is_less_accurate(learned, scene, tmp_path):
    choose(learned, SupportCTs.NEVER)
    save_scene(tmp_path / "scene.mrb")
    scene.Clear(0)
    learned.session.set_library(None, "")
    load_scene(tmp_path / "scene.mrb")
    assert learned.session.library.names and not learned.session.library.supports[0].coarse_ct
    assert "less accurate" in learned.ui.warningsLabel.text


def test_the_library_in_use_stays_whole_when_the_scene_keeps_less(learned, save_as, tmp_path):
    save_as(tmp_path / "mine.json")
    learned.widget.connectParameterNode()  # as when the module is opened again
    assert learned.session.library.supports[0].coarse_ct


def test_a_scene_with_the_built_in_library_gets_it_back_whole(learned, save_as, scene, monkeypatch, tmp_path):
    from APELocalizerLib.core.library import built_in

    monkeypatch.setattr(built_in, "LIBRARIES", tmp_path)
    save_as(tmp_path / "torso.json")
    learned.click("builtInLibraryButton")
    save_scene(tmp_path / "scene.mrb")
    assert coarse_ct(learned) not in content(tmp_path / "scene.mrb")
    scene.Clear(0)
    learned.session.set_library(None, "")
    load_scene(tmp_path / "scene.mrb")
    assert learned.session.library.supports[0].coarse_ct
