"""A MRML scene outside the Slicer application, for the command line and the tests (PyPI package slicer-core).

Inside Slicer nothing of this is used: the application has its scene and its logics. `open_headless_scene` sets
`slicer.mrmlScene`, so that the rest of the package finds its scene in the same place in both worlds.
"""

import atexit
import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
import slicer.util
import vtk

from APELocalizerLib.core.base.errors import SceneError

if TYPE_CHECKING:
    import numpy as np

MODULE_LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}
"""Names under which displayable managers look the module logics up, and the classes behind them."""

SLICE_VIEWS = {
    "Red": ("R", "Axial", (0.953, 0.290, 0.200)),
    "Yellow": ("Y", "Sagittal", (0.929, 0.835, 0.298)),
    "Green": ("G", "Coronal", (0.431, 0.690, 0.294)),
}
"""Slicer's default slice views: label, orientation and color."""


def inside_slicer() -> bool:
    """Whether this runs in the Slicer application (or a Python console of it)."""
    return getattr(slicer, "app", None) is not None


class HeadlessScene:
    """Scene, application logic and module logics. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.application_logic = slicer.vtkSlicerApplicationLogic()
        self.application_logic.SetMRMLScene(self.scene)
        self.application_logic.SetSliceLogics(vtk.vtkCollection())
        self.application_logic.SetViewLogics(vtk.vtkCollection())
        self.module_logics = {name: self._register(name, kind) for name, kind in MODULE_LOGICS.items()}
        self.module_logics["Colors"].AddDefaultColorNodes()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)  # patient right on screen left
        slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(self.scene)
        self._slice_logics = [self._add_slice_view(name) for name in SLICE_VIEWS]

    def _register(self, name: str, class_name: str):
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(self.application_logic)
        logic.SetMRMLScene(self.scene)
        self.application_logic.SetModuleLogic(name, logic)
        return logic

    def _add_slice_view(self, name: str):
        """Slice and composite node of one of Slicer's default views, so that a saved scene opens as it was left."""
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self.application_logic)
        logic.SetMRMLScene(self.scene)
        node = logic.AddSliceNode(name)
        label, orientation, color = SLICE_VIEWS[name]
        node.SetLayoutLabel(label)
        node.SetLayoutColor(color)
        node.SetDefaultOrientation(orientation)
        node.SetOrientation(orientation)
        self.application_logic.GetSliceLogics().AddItem(logic)
        return logic

    def fit_slices(self) -> None:
        """Center and zoom the slice views on their scan, as they will be seen when the saved scene is opened."""
        for logic in self._slice_logics:
            logic.FitSliceToBackground()

    def close(self) -> None:
        """Empty the scene and let `slicer.mrmlScene` go."""
        global _current
        self._slice_logics.clear()
        self.scene.Clear(1)
        if getattr(slicer, "mrmlScene", None) is self.scene:
            del slicer.mrmlScene
        if _current is self:
            _current = None

    def __enter__(self) -> "HeadlessScene":
        return self

    def __exit__(self, *_error) -> None:
        self.close()


_current: HeadlessScene | None = None


def open_headless_scene() -> HeadlessScene:
    """New empty scene as `slicer.mrmlScene`; one that is still open is closed first. SceneError inside Slicer."""
    global _current
    if inside_slicer():
        raise SceneError("Slicer already has a scene. Use slicer.mrmlScene.")
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")  # before the first render window
    if _current is not None:
        _current.close()
    _current = HeadlessScene()
    slicer.mrmlScene = _current.scene
    return _current


@atexit.register
def _close_at_exit() -> None:
    """VTK crashes when Python, on its way out, takes a filled scene apart in arbitrary order."""
    if _current is not None:
        _current.close()


def current_headless_scene() -> HeadlessScene:
    """The open headless scene. Raises SceneError if there is none."""
    if _current is None:
        raise SceneError("No scene is open. Call open_headless_scene() first.")
    return _current


def add_volume(scan_voxels: "np.ndarray", ijk_to_ras: "np.ndarray", name: str) -> Any:
    """New scalar volume node with voxels (i, j, k) and a 4x4 index-to-RAS matrix, shown in all slice views.

    The voxels are copied. Also makes the node's subject hierarchy item, which Slicer itself does by its GUI.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, scan_voxels.transpose(2, 1, 0))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(400.0, 40.0)  # the usual soft tissue window
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if not hierarchy.GetItemByDataNode(node):
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(node.GetID())
    current_headless_scene().fit_slices()
    return node


def save_scene(path: str | Path) -> None:
    """Write `slicer.mrmlScene` to one .mrb file. The file appears only when it is complete; SceneError if not."""
    path = Path(path).resolve()
    if path.suffix.lower() != ".mrb":
        raise SceneError(f"'{path.name}' is not a scene bundle. Give the file the ending .mrb.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".scene-") as folder:
        bundle = Path(folder) / path.name
        if not slicer.mrmlScene.WriteToMRB(str(bundle)) or not bundle.is_file():
            raise SceneError(f"The scene could not be written to '{path}'. Check free space and write permission.")
        os.replace(bundle, path)


def load_scene(path: str | Path) -> None:
    """Add the contents of a .mrb file to `slicer.mrmlScene`. SceneError if it is not a readable scene bundle."""
    with _unpacked(Path(path)) as description:
        slicer.mrmlScene.SetURL(str(description))
        slicer.mrmlScene.SetRootDirectory(str(description.parent))
        if not slicer.mrmlScene.Import():
            raise SceneError(f"The scene '{path}' could not be read completely. Save it again from Slicer.")


@contextlib.contextmanager
def _unpacked(bundle: Path) -> Iterator[Path]:
    """The .mrml file of a bundle, unpacked for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="scene-") as folder:
        try:
            with zipfile.ZipFile(bundle) as archive:
                archive.extractall(folder)
            description = next(Path(folder).rglob("*.mrml"))
        except (OSError, zipfile.BadZipFile, StopIteration) as error:
            raise SceneError(f"'{bundle}' is not a scene bundle (.mrb). Choose another file.") from error
        yield description
