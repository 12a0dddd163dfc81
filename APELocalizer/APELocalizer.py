"""APELocalizer: find anatomical landmarks and organ boxes on CT from clicks on one support scan.

Module metadata, parameter node, widget shell and logic façade; panels are in `APELocalizerLib.gui`. torch, numpy and
SimpleITK are imported when they are first needed, never when Slicer starts.
"""

from pathlib import Path
from typing import Annotated

import slicer
from slicer import (
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTableNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.scene import setup_status
from APELocalizerLib.scene.choices import Overlay, Spacing
from APELocalizerLib.scene.overlay_keeper import OverlayKeeper
from APELocalizerLib.scene.tasks import DEFAULT_SETTINGS, LearnTask, LocalizeTask, RunSettings, do

HOMEPAGE = "https://github.com/APELocalizer/SlicerAPELocalizer"


class APELocalizer(ScriptedLoadableModule):
    """Module metadata."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("APE Localizer")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = []  # PyTorch is looked for when it is needed, so that the panel can say how to get it
        parent.contributors = ["APELocalizer contributors"]
        parent.helpText = _(
            "Click an anatomical landmark once on one CT (the support) and find it on any other CT of chest, abdomen "
            "and pelvis, with a confidence in millimeters, or “not found” where it is outside the field of view. "
            "Organs are found as boxes. All computations stay on this computer. "
            'See the <a href="{homepage}">documentation</a>. For research only, not for clinical use.'
        ).format(homepage=HOMEPAGE)
        parent.acknowledgementText = _(
            "Based on anatomical positional embeddings. Please cite: Goncharov M. et al., “Anatomical Positional "
            'Embeddings”, 2024, <a href="https://arxiv.org/abs/2409.10291">arXiv:2409.10291</a>.'
        )


@parameterNodeWrapper
class APELocalizerParameterNode:
    """What the panel shows, kept in the scene.

    scan: CT on which to find; support, points, segmentation: CT, clicked landmarks and organs to learn from;
    spacing: accuracy against time; replaceResults: whether a run replaces the scan's earlier results;
    overlay, opacity: what is drawn over the scan; device: "auto" or a name such as "cuda:1"; model: registry id or
    file; resultPoints, resultTable: the last run's nodes.
    """

    scan: vtkMRMLScalarVolumeNode
    support: vtkMRMLScalarVolumeNode
    points: vtkMRMLMarkupsFiducialNode
    segmentation: vtkMRMLSegmentationNode
    spacing: Spacing = Spacing.STANDARD
    replaceResults: bool = True
    overlay: Overlay = Overlay.RGB
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.4
    device: str = "auto"
    model: str = "default"
    resultPoints: vtkMRMLMarkupsFiducialNode
    resultTable: vtkMRMLTableNode


class APELocalizerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the panel's `.ui` file, gives its sections to the panel classes and follows the scene."""

    def __init__(self, parent=None, logic=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = logic
        self.session = None
        self._guiTag = None

    def setup(self):
        from APELocalizerLib.gui.learn_panel import LearnPanel
        from APELocalizerLib.gui.library_panel import LibraryPanel
        from APELocalizerLib.gui.localize_panel import LocalizePanel
        from APELocalizerLib.gui.overlay_panel import OverlayPanel
        from APELocalizerLib.gui.results_panel import ResultsPanel
        from APELocalizerLib.gui.session import Session
        from APELocalizerLib.gui.setup_panel import SetupPanel
        from APELocalizerLib.gui.status_panel import StatusPanel

        ScriptedLoadableModuleWidget.setup(self)
        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/APELocalizer.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = self.logic or APELocalizerLogic()
        self.session = Session(self.logic)
        self.learnPanel = LearnPanel(self.ui, self.session)
        # The overlay comes before the results: it fits the views to another scan, the results then center them.
        others = (LibraryPanel, StatusPanel, OverlayPanel, ResultsPanel, LocalizePanel, SetupPanel)
        self.panels = [self.learnPanel, *(panel(self.ui, self.session) for panel in others)]
        self.session.listeners.append(self.onViewsChanged)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneReady)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneReady)
        self.connectParameterNode()
        self.ui.learnSection.collapsed = self.session.library is not None

    def enter(self):
        """The module is opened."""
        if self.session is None:
            return
        self.session.in_front = True
        if self.session.parameters is None:
            self.connectParameterNode()
        else:
            self.session.changed()

    def exit(self):
        """Another module is opened: a running task goes on, and shows its results when this one is opened again."""
        if self.session is not None:
            self.session.in_front = False

    def cleanup(self):
        """The module is about to be unloaded."""
        if self.session is not None:
            self.session.runner.stop(self.logic.engine.release)
            self.learnPanel.let_go()
            self.disconnectParameterNode()
        self.removeObservers()

    def connectParameterNode(self):
        """Show the scene's parameter node, and the library that the scene holds. No scan is chosen for the user."""
        self.disconnectParameterNode()
        parameters = self.logic.getParameterNode()
        self._guiTag = parameters.connectGui(self.ui)
        self.session.parameters = parameters
        self.addObserver(parameters.parameterNode, "ModifiedEvent", self.onParametersModified)
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            if not self.hasObserver(composite, "ModifiedEvent", self.onViewsChanged):
                self.addObserver(composite, "ModifiedEvent", self.onViewsChanged)
        self.session.restore()
        self.session.changed()

    def disconnectParameterNode(self):
        """Let go of the parameter node."""
        parameters, self.session.parameters = self.session.parameters, None
        if parameters is not None:
            self.removeObserver(parameters.parameterNode, "ModifiedEvent", self.onParametersModified)
            parameters.disconnectGui(self._guiTag)

    def onParametersModified(self, caller=None, event=None):
        """Something was chosen."""
        self.session.changed()

    def onViewsChanged(self, caller=None, event=None):
        """Another scan is in view: show only what belongs to it."""
        from APELocalizerLib.scene.result_visibility import show_only_results_in_view

        parameters = self.session.parameters
        if parameters is not None and not slicer.mrmlScene.IsBatchProcessing():
            show_only_results_in_view(parameters.points, parameters.support)

    def onSceneStartClose(self, caller=None, event=None):
        """The nodes go away: a running task is cancelled and its result dropped. The library stays in use."""
        self.session.runner.abandon()
        self.learnPanel.let_go()
        self.disconnectParameterNode()
        self.logic.overlays.forget()
        self.logic.engine.forget_maps()
        self.session.say("")

    def onSceneStartImport(self, caller=None, event=None):
        """A scene is loaded: until it is complete no selector may write into its parameters."""
        self.disconnectParameterNode()

    def onSceneReady(self, caller=None, event=None):
        """The scene is empty now, or was loaded, perhaps with a library of its own."""
        if self.parent.isEntered:
            self.connectParameterNode()


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

    def __init__(self, engine=None):
        ScriptedLoadableModuleLogic.__init__(self)
        self.engine = engine or Engine()
        self.overlays = OverlayKeeper(self.engine)

    def getParameterNode(self):
        """The scene's parameter node, typed."""
        return APELocalizerParameterNode(super().getParameterNode())

    # Finding and learning ----------------------------------------------------------------------------------------

    def localize(
        self,
        volumeNode,
        library,
        spacing="standard",
        device="auto",
        checkpoint="default",
        overlay=True,
        progress=None,
        cancelled=None,
    ):
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
        supportVolumeNode,
        pointsNode=None,
        segmentationNode=None,
        library=None,
        spacing="standard",
        device="auto",
        checkpoint="default",
        progress=None,
        cancelled=None,
    ):
        """Learn named points and visible segments of a support scan.

        :return: a new `LandmarkLibrary`, which also holds everything of `library`.
        """
        settings = RunSettings(spacing, device, checkpoint)
        task = self.learnTask(supportVolumeNode, library, settings, pointsNode, segmentationNode)
        return do(task, progress, cancelled)

    def localizeTask(self, volumeNode, library, settings=DEFAULT_SETTINGS, overlay=True):
        """What `localize` does, in steps that a panel can run in the background (see `scene.tasks`)."""
        return LocalizeTask(self.engine, volumeNode, library, settings, overlay, self.overlays)

    def learnTask(self, volumeNode, library, settings=DEFAULT_SETTINGS, points_node=None, segmentation_node=None):
        """What `learn` does, in steps that a panel can run in the background (see `scene.tasks`)."""
        return LearnTask(self.engine, volumeNode, library, settings, points_node, segmentation_node)

    def folderName(self, resultNodes):
        """Name of the subject hierarchy folder of a run's results."""
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        return hierarchy.GetItemName(resultNodes.folder_item_id)

    # Library -----------------------------------------------------------------------------------------------------

    def loadLibrary(self, path):
        """Read a landmark library file, or the one that comes with the extension for the name "built-in"."""
        return self.engine.library(path)

    def saveLibrary(self, library, path):
        """Write a landmark library file; an existing one is replaced only by a complete one."""
        from APELocalizerLib.core.library.files import save_library

        save_library(library, path)

    def builtInLibraryPath(self):
        """Path of the library that comes with the extension, or None."""
        from APELocalizerLib.core.library.built_in import built_in_library_path

        path = built_in_library_path()
        return None if path is None else str(path)

    def storeLibrary(self, library, settings=DEFAULT_SETTINGS):
        """Keep the library and the settings it is used with in the scene."""
        from APELocalizerLib.scene.state import save_state

        used = {"spacing": settings.spacing, "device": settings.device, "model": settings.model}
        save_state(slicer.mrmlScene, library, used, library.model_id if library else None)

    def storedLibrary(self):
        """The library kept in the scene, or None."""
        from APELocalizerLib.scene.state import load_state

        state = load_state(slicer.mrmlScene)
        return state.library if state else None

    # Setup -------------------------------------------------------------------------------------------------------

    def torchProblem(self):
        """What to do before PyTorch can be used; empty if it can."""
        return setup_status.pytorch_problem()

    def installTorch(self):
        """Install PyTorch; asks before. Returns what came of it, see `setup_status.install_pytorch`."""
        return setup_status.install_pytorch()


class APELocalizerTest(ScriptedLoadableModuleTest):
    """Run inside Slicer by its test driver; the full tests are in the repository's Testing folder."""

    def runTest(self):
        """The panel opens, and an empty library is refused without leaving anything behind."""
        from APELocalizerLib.core.base.errors import APELocalizerError

        slicer.mrmlScene.Clear()
        logic = APELocalizerLogic()
        logic.getParameterNode()
        before = slicer.mrmlScene.GetNumberOfNodes()
        with self.assertRaises(APELocalizerError):
            logic.localize(None, None)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before)
        self.delayDisplay("Test passed")
