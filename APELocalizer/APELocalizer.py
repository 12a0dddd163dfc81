"""APELocalizer: find anatomical landmarks and organ boxes on CT from clicks on one support scan.

Module metadata, widget shell and the test that Slicer runs. The panels are in `APELocalizerLib.gui`, the logic and its
parameter node in `APELocalizerLib.scene`. torch, numpy and SimpleITK are imported when they are first needed,
never when Slicer starts.
"""

from typing import TYPE_CHECKING
from unittest import SkipTest

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from APELocalizerLib.scene.logic import APELocalizerLogic
from APELocalizerLib.scene.parameter_node import APELocalizerParameterNode
from APELocalizerLib.scene.sample_data import register_sample_data
from APELocalizerLib.scene.self_test import check_main_job, check_refusal

__all__ = [
    "APELocalizer",
    "APELocalizerLogic",
    "APELocalizerParameterNode",
    "APELocalizerTest",
    "APELocalizerWidget",
]

if TYPE_CHECKING:  # the panels need Qt, which a Slicer without a main window lacks
    from APELocalizerLib.gui.session import Session

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
        application = getattr(slicer, "app", None)
        if application is not None:  # the Sample Data module is there once Slicer has started
            application.connect("startupCompleted()", register_sample_data)


class APELocalizerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the panel's `.ui` file, gives its sections to the panel classes and follows the scene."""

    session: "Session"

    def __init__(self, parent=None, logic=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = logic
        self._isSetUp = False
        self._guiTag = 0

    def setup(self):
        from APELocalizerLib.gui.entry_panel import EntryPanel
        from APELocalizerLib.gui.learn_panel import LearnPanel
        from APELocalizerLib.gui.library_panel import LibraryPanel
        from APELocalizerLib.gui.localize_panel import LocalizePanel
        from APELocalizerLib.gui.overlay_panel import OverlayPanel
        from APELocalizerLib.gui.privacy_panel import PrivacyPanel
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
        others = (LibraryPanel, EntryPanel, StatusPanel, OverlayPanel, ResultsPanel)
        last = (LocalizePanel, SetupPanel, PrivacyPanel)
        self.panels = [self.learnPanel, *(panel(self.ui, self.session) for panel in (*others, *last))]
        self.session.listeners.append(self.onViewsChanged)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneReady)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneReady)
        self._isSetUp = True
        self.connectParameterNode()
        self.ui.learnSection.collapsed = self.session.library is not None

    def enter(self):
        """The module is opened."""
        if not self._isSetUp:
            return
        self.session.in_front = True
        if self.session.parameters is None:
            self.connectParameterNode()
        else:
            self.session.changed()

    def exit(self):
        """Another module is opened: a running task goes on, and shows its results when this one is opened again."""
        if self._isSetUp:
            self.session.in_front = False

    def cleanup(self):
        """The module is about to be unloaded."""
        if self._isSetUp:
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


class APELocalizerTest(ScriptedLoadableModuleTest):
    """Run inside Slicer by its test driver; the full tests are in the repository's Testing folder."""

    def setUp(self):
        """Each test begins with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run all."""
        for test in (self.test_refusal, self.test_main_job):
            self.setUp()
            try:
                test()
            except SkipTest as skipped:
                self.delayDisplay(str(skipped))
        self.delayDisplay("Test passed")

    def test_refusal(self):
        """A run that cannot start says so and leaves the scene as it was."""
        check_refusal(self)

    def test_main_job(self):
        """Landmarks clicked on one sample CT are found on the other."""
        check_main_job(self)
