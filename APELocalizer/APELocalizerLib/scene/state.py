"""What the module remembers in the scene: landmark library, settings and model id.

They live in two singletons, a script node and a text node (the library's JSON, a file of its own in a .mrb), so that
they are saved with the scene and come back with it. There is one state per scene; loading a scene replaces it.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import slicer

from APELocalizerLib.core.base.errors import SceneError
from APELocalizerLib.scene.cleanup import all_or_nothing

if TYPE_CHECKING:  # it loads SimpleITK, which opening the panel does not need
    from APELocalizerLib.core.library.library import LandmarkLibrary

SINGLETON_TAG = "APELocalizerState"
VERSION = 1
LIBRARY_TAG = "APELocalizerLibrary"


@dataclass(frozen=True)
class State:
    """Library (None if none was learned or opened), settings (JSON values only) and model id."""

    library: "LandmarkLibrary | None" = None
    settings: dict = field(default_factory=dict)
    model_id: str = ""


def save_state(scene, library: "LandmarkLibrary | None", settings: dict, model_id: str) -> None:
    """Keep library, settings and model id in the scene, in place of what was kept before.

    Raises SceneError if `settings` cannot be written as JSON; the scene is unchanged then.
    """
    try:
        settings_text = json.dumps(settings, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise SceneError(f"The settings cannot be saved in the scene: {error}.") from error
    library_text = "" if library is None else _to_text(library)
    with all_or_nothing():
        node = _state_node(scene) or _new_state_node(scene)
        text_node = _library_node(scene) or _new_library_node(scene)
    modified = node.StartModify()
    node.SetParameter("version", str(VERSION))
    node.SetParameter("settings", settings_text)
    node.SetParameter("checkpointId", model_id or "")
    node.EndModify(modified)
    text_node.SetText(library_text)


def load_state(scene) -> State:
    """What was kept in the scene; an empty State if nothing was.

    Raises SceneError for a state of a newer version or one that cannot be read, LibraryError for a damaged library.
    """
    node = _state_node(scene)
    if node is None:
        return State()
    try:
        version = int(node.GetParameter("version") or 0)
        settings = json.loads(node.GetParameter("settings") or "{}")
    except ValueError as error:
        raise SceneError("The landmark settings saved in this scene cannot be read. Open the library file.") from error
    if version > VERSION:
        raise SceneError("This scene was saved by a newer version of APELocalizer. Update the extension to use it.")
    text_node = _library_node(scene)
    text = (text_node.GetText() or "") if text_node is not None else ""
    library = _from_text(text) if text else None
    return State(library, settings, node.GetParameter("checkpointId") or "")


def _to_text(library: "LandmarkLibrary") -> str:
    from APELocalizerLib.core.library.files import to_json

    return to_json(library)


def _from_text(text: str) -> "LandmarkLibrary":
    from APELocalizerLib.core.library.files import from_json

    return from_json(text)


def _state_node(scene):
    return scene.GetSingletonNode(SINGLETON_TAG, "vtkMRMLScriptedModuleNode")


def _library_node(scene):
    return scene.GetSingletonNode(LIBRARY_TAG, "vtkMRMLTextNode")


def _new_state_node(scene):
    node = slicer.vtkMRMLScriptedModuleNode()
    node.SetSingletonTag(SINGLETON_TAG)
    node.SetModuleName("APELocalizer")
    node.SetName("APELocalizer state")
    node.SetHideFromEditors(True)
    return scene.AddNode(node)


def _new_library_node(scene):
    node = slicer.vtkMRMLTextNode()
    node.SetSingletonTag(LIBRARY_TAG)
    node.SetName("APELocalizer library")
    node.SetHideFromEditors(True)
    node.SetForceCreateStorageNode(slicer.vtkMRMLTextNode.CreateStorageNodeAlways)
    return scene.AddNode(node)
