"""Learning from a support scan: clicked landmarks, and organs of a segmentation."""

from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from APELocalizerLib.gui.run_button import RunButton
from APELocalizerLib.gui.session import Session
from APELocalizerLib.scene.clicks import clicked_elsewhere
from APELocalizerLib.scene.nodes import MarkupsNode, VolumeNode
from APELocalizerLib.scene.parameter_node import APELocalizerParameterNode
from APELocalizerLib.scene.slice_views import scans_in_view, show_scan
from APELocalizerLib.scene.tasks import LearnTask
from APELocalizerLib.scene.wording import learned_text

if TYPE_CHECKING:  # it loads SimpleITK, which opening the panel does not need
    from APELocalizerLib.core.library.library import LandmarkLibrary


class LearnPanel:
    """Section “Learn from a support scan”. Choosing the support shows it, so that it is the scan clicked on."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._parameters: APELocalizerParameterNode | None = None
        self._support: VolumeNode | None = None
        self._points: MarkupsNode | None = None
        self._placed = 0
        self._task: LearnTask | None = None
        RunButton(ui.learnPointsButton, "learn points", session.runner, self.learn_points)
        RunButton(ui.learnOrgansButton, "learn organs", session.runner, self.learn_organs)
        ui.pointsSelector.currentNodeChanged.connect(self._on_points_changed)
        session.listeners.append(self.update)
        self._on_points_changed()

    def update(self) -> None:
        """Show the support when another one was chosen; not when the panel, or a scene, was just opened."""
        parameters = self._session.parameters
        support = parameters.support if parameters else None
        chosen = support is not self._support and parameters is self._parameters
        self._parameters, self._support = parameters, support
        if chosen and support is not None:
            show_scan(support)

    def let_go(self) -> None:
        """The scene is about to be closed: its points go away."""
        self._observe(None)
        self._ui.pointsWidget.setCurrentNode(None)

    def _on_points_changed(self, *_arguments) -> None:
        points = self._ui.pointsSelector.currentNode()
        self._ui.pointsWidget.setCurrentNode(points)
        self._observe(points)

    def _observe(self, points) -> None:
        if self._points is not None:
            self._points.RemoveObserver(self._placed)
        self._points = points
        if points is not None:
            placed = slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent
            self._placed = points.AddObserver(placed, self._on_placed)

    def _on_placed(self, *_arguments) -> None:
        """A point was placed: warn at once if the scan in view is not the support."""
        support, in_view = self._support, scans_in_view()
        if support is not None and in_view and support not in in_view:
            text = _(
                "This point was placed on “{shown}”, but the support scan is “{support}”. "
                "Delete the point, show the support scan, and place it there."
            )
            self._session.say(text.format(shown=in_view[0].GetName(), support=support.GetName()))

    def learn_points(self) -> None:
        """Learn the clicked landmarks; asks if some were clicked on another scan than the support."""
        points, support = self._ui.pointsSelector.currentNode(), self._ui.supportSelector.currentNode()
        for scan, labels in clicked_elsewhere(points, support).items():
            question = _(
                "{labels}: clicked on “{scan}”, but the support scan is “{support}”. On the support these positions "
                "may be other anatomy. Learn them anyway?"
            ).format(labels=", ".join(labels), scan=scan, support=support.GetName())
            if not slicer.util.confirmOkCancelDisplay(question):
                return
        self._learn("learn points", points_node=points)

    def learn_organs(self) -> None:
        """Learn the visible segments."""
        self._learn("learn organs", segmentation_node=self._ui.segmentationSelector.currentNode())

    def _learn(self, owner: str, **sources) -> None:
        session, support = self._session, self._ui.supportSelector.currentNode()

        def make_task() -> LearnTask:
            self._task = task = session.logic.learnTask(support, session.library, session.run_settings(), **sources)
            return task

        session.start(owner, make_task, lambda library: self._on_learned(library, owner == "learn organs"))

    def _on_learned(self, library: "LandmarkLibrary", organs: bool) -> None:
        warnings = self._task.warnings if self._task else ()
        self._task = None
        self._session.set_library(library, learned_text(library, self._session.library, organs), warnings)
