"""Library, settings and model id are saved with the scene and come back with it."""

import pytest
import slicer
import slicer.util

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.library.entries import Landmark, Shot
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.scene.headless import load_scene, open_headless_scene, save_scene
from APELocalizerLib.scene.state import LIBRARY_TAG, SINGLETON_TAG, State, load_state, save_state
from made_up.nodes import LIVER, contents, raises

SETTINGS = {"spacing": "fast", "opacity": 0.35, "names": ["Schädel", "肝"]}


@pytest.fixture
def a_library(an_embedding_map) -> LandmarkLibrary:
    shot = Shot("fingerprint", (70.0, 10.0, -45.0), (70.1, 10.2, -45.3), "2026-01-31")
    landmark = Landmark("Leber (Mitte)", (shot,), LIVER, "middle of the liver")
    return LandmarkLibrary().with_support(an_embedding_map).with_landmark(landmark)


def test_new_scene_holds_no_state(a_scene):
    assert load_state(a_scene) == State(None, {}, "")


def test_state_comes_back(a_scene, a_library):
    save_state(a_scene, a_library, SETTINGS, "model@1")
    assert load_state(a_scene) == State(a_library, SETTINGS, "model@1")


def test_later_state_replaces_the_earlier_without_new_nodes(a_scene, a_library):
    save_state(a_scene, a_library, SETTINGS, "model@1")
    before = contents(a_scene)
    save_state(a_scene, None, {}, "model@2")
    assert load_state(a_scene) == State(None, {}, "model@2")
    assert contents(a_scene) == before


def test_state_survives_saving_and_loading_the_scene(a_scene, a_library, tmp_path):
    save_state(a_scene, a_library, SETTINGS, "model@1")
    save_scene(tmp_path / "scene.mrb")
    with open_headless_scene() as fresh:
        load_scene(tmp_path / "scene.mrb")
        assert load_state(fresh.scene) == State(a_library, SETTINGS, "model@1")


def test_loaded_scene_replaces_the_state_that_was_there(a_scene, a_library, tmp_path):
    save_state(a_scene, a_library, SETTINGS, "model@1")
    save_scene(tmp_path / "scene.mrb")
    with open_headless_scene() as other:
        save_state(other.scene, None, {"spacing": "fine"}, "model@9")
        load_scene(tmp_path / "scene.mrb")
        assert load_state(other.scene) == State(a_library, SETTINGS, "model@1")
        assert other.scene.GetNumberOfNodesByClass("vtkMRMLTextNode") == 1


def test_closing_the_scene_forgets_the_state(a_scene, a_library):
    save_state(a_scene, a_library, SETTINGS, "model@1")
    a_scene.Clear(0)
    assert load_state(a_scene) == State()


def test_settings_that_are_not_json_leave_the_scene_as_it_was(a_scene):
    before = contents(a_scene)
    with raises("settings cannot be saved"):
        save_state(a_scene, None, {"node": object()}, "model@1")
    assert contents(a_scene) == before


def test_newer_and_damaged_states_are_refused(a_scene, a_library):
    save_state(a_scene, a_library, {}, "model@1")
    a_scene.GetSingletonNode(LIBRARY_TAG, "vtkMRMLTextNode").SetText('{"format": "something else"}')
    with pytest.raises(LibraryError):
        load_state(a_scene)
    node = a_scene.GetSingletonNode(SINGLETON_TAG, "vtkMRMLScriptedModuleNode")
    node.SetParameter("version", "2")
    with raises("newer version"):
        load_state(a_scene)
    node.SetParameter("settings", "{")
    with raises("cannot be read"):
        load_state(a_scene)


def test_state_nodes_are_not_offered_to_the_user(a_scene, a_library):
    save_state(a_scene, a_library, SETTINGS, "model@1")
    for class_name in ("vtkMRMLTextNode", "vtkMRMLScriptedModuleNode"):
        assert all(node.GetHideFromEditors() for node in slicer.util.getNodesByClass(class_name))
