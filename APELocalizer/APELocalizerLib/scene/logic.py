"""The module's logic: everything it does, for its panel and for the Python console."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from APELocalizerLib.app.engine import BUILT_IN, Engine
from APELocalizerLib.core.base.progress import CancelCheck, Progress
from APELocalizerLib.scene import setup_status
from APELocalizerLib.scene.nodes import MarkupsNode, SegmentationNode, VolumeNode
from APELocalizerLib.scene.overlay_keeper import OverlayKeeper
from APELocalizerLib.scene.parameter_node import APELocalizerParameterNode
from APELocalizerLib.scene.privacy import without_coarse_ct
from APELocalizerLib.scene.run_settings import DEFAULT_SETTINGS, RunSettings
from APELocalizerLib.scene.tasks import LearnTask, LocalizeTask, do

if TYPE_CHECKING:  # these load SimpleITK and torch, which opening the panel does not need
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.scene.results import ResultNodes


class APELocalizerLogic(ScriptedLoadableModuleLogic):
    """Everything the module does, without a panel. Example for the Python console::

        from APELocalizer import APELocalizerLogic
        logic = APELocalizerLogic()
        support, scan = slicer.util.getNode("CT patient A"), slicer.util.getNode("CT patient B")
        clicks = slicer.util.getNode("F")  # a point list with named landmarks on the support
        library = logic.learn(support, pointsNode=clicks)
        logic.saveLibrary(library, "landmarks.json")
        results = logic.localize(scan, library, spacing="standard", device="auto")
        print(slicer.util.arrayFromMarkupsControlPoints(results.points_node, world=True))
        logic.overlays.show(scan, "similarity", library=library, landmark=library.names[0])

    All methods raise `APELocalizerError` (core/base/errors.py) with a sentence that says what to do; then the scene is
    as it was. `progress(fraction, text)` and `cancelled() -> bool` are called while a scan is embedded.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.engine = engine or Engine()
        self.overlays = OverlayKeeper(self.engine)

    def getParameterNode(self) -> APELocalizerParameterNode:
        """The scene's parameter node, typed."""
        return APELocalizerParameterNode(super().getParameterNode())

    # Finding and learning ----------------------------------------------------------------------------------------

    def localize(
        self,
        volumeNode: VolumeNode | None,
        library: LandmarkLibrary | str | Path,
        spacing: str = "standard",
        device: str = "auto",
        checkpoint: str = "default",
        overlay: bool = True,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> ResultNodes:
        """Find all landmarks and organs of a library on a scan.

        :param volumeNode: CT to search, also under linear transforms.
        :param library: a `LandmarkLibrary`, the path of its file, or "built-in".
        :param spacing: "fast" or "standard"; some models also have "fine".
        :param device: "auto", "cpu", "cuda:0", "mps" …
        :param checkpoint: model id or file; it must be the one the library was learned with.
        :param overlay: also add the anatomical position as a color volume.
        :return: `ResultNodes` with points_node, roi_nodes, table_node, overlay_node and folder_item_id.
        """
        if isinstance(library, (str, Path)):
            library = self.loadLibrary(library)
        task = self.localizeTask(volumeNode, library, RunSettings(spacing, device, checkpoint), overlay)
        return do(task, progress, cancelled)

    def learn(
        self,
        supportVolumeNode: VolumeNode | None,
        pointsNode: MarkupsNode | None = None,
        segmentationNode: SegmentationNode | None = None,
        library: LandmarkLibrary | None = None,
        spacing: str = "standard",
        device: str = "auto",
        checkpoint: str = "default",
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> LandmarkLibrary:
        """Learn named points and visible segments of a support scan.

        :return: a new `LandmarkLibrary`, which also holds everything of `library`.
        """
        settings = RunSettings(spacing, device, checkpoint)
        task = self.learnTask(supportVolumeNode, library, settings, pointsNode, segmentationNode)
        return do(task, progress, cancelled)

    def localizeTask(
        self,
        volumeNode: VolumeNode | None,
        library: LandmarkLibrary | None,
        settings: RunSettings = DEFAULT_SETTINGS,
        overlay: bool = True,
    ) -> LocalizeTask:
        """What `localize` does, in steps that a panel can run in the background (see `scene.tasks`)."""
        return LocalizeTask(self.engine, volumeNode, library, settings, overlay, self.overlays)

    def learnTask(
        self,
        volumeNode: VolumeNode | None,
        library: LandmarkLibrary | None,
        settings: RunSettings = DEFAULT_SETTINGS,
        points_node: MarkupsNode | None = None,
        segmentation_node: SegmentationNode | None = None,
    ) -> LearnTask:
        """What `learn` does, in steps that a panel can run in the background (see `scene.tasks`)."""
        return LearnTask(self.engine, volumeNode, library, settings, points_node, segmentation_node)

    def folderName(self, resultNodes: ResultNodes) -> str:
        """Name of the subject hierarchy folder of a run's results."""
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        return hierarchy.GetItemName(resultNodes.folder_item_id)

    # Library -----------------------------------------------------------------------------------------------------

    def loadLibrary(self, path: str | Path) -> LandmarkLibrary:
        """Read a landmark library file, or the one that comes with the extension for the name "built-in"."""
        return self.engine.library(path)

    def saveLibrary(self, library: LandmarkLibrary, path: str | Path) -> None:
        """Write a landmark library file; an existing one is replaced only by a complete one."""
        from APELocalizerLib.core.library.files import save_library

        save_library(library, path)

    def builtInLibraryPath(self) -> str | None:
        """Path of the library that comes with the extension, or None."""
        from APELocalizerLib.core.library.built_in import built_in_library_path

        path = built_in_library_path()
        return None if path is None else str(path)

    def storeLibrary(
        self,
        library: LandmarkLibrary | None,
        settings: RunSettings = DEFAULT_SETTINGS,
        coarse_ct: bool = True,
        file_name: str = "",
    ) -> None:
        """Keep the library and the settings it is used with in the scene.

        :param coarse_ct: also keep the coarse copies of the support CTs, which show their anatomy.
        :param file_name: name of the file that holds the library, "built-in" for the extension's own.
        """
        from APELocalizerLib.scene.state import save_state

        used = {"spacing": settings.spacing, "device": settings.device, "model": Path(settings.model).name}
        if file_name:
            used["library"] = Path(file_name).name
        kept = library if library is None or coarse_ct else without_coarse_ct(library)
        save_state(slicer.mrmlScene, kept, used, (library.model_id or "") if library else "")

    def storedLibrary(self) -> LandmarkLibrary | None:
        """The library kept in the scene, or None. The built-in one has its coarse CTs even if the scene has none."""
        from APELocalizerLib.scene.state import load_state

        state = load_state(slicer.mrmlScene)
        library = state.library
        if library is not None and state.settings.get("library") == BUILT_IN and self.builtInLibraryPath():
            built_in = self.loadLibrary(BUILT_IN)
            if library == without_coarse_ct(built_in):
                return built_in
        return library

    # Setup -------------------------------------------------------------------------------------------------------

    def torchProblem(self) -> str:
        """What to do before PyTorch can be used; empty if it can."""
        return setup_status.pytorch_problem()

    def installTorch(self) -> str:
        """Install PyTorch; asks before. Returns what came of it, see `setup_status.install_pytorch`."""
        return setup_status.install_pytorch()
