"""Learning from a support scan: clicked landmarks, and organs of a segmentation."""

from slicer.i18n import tr as _

from APELocalizerLib.gui.run_button import RunButton
from APELocalizerLib.gui.session import Session


class LearnPanel:
    """Section “Learn from a support scan”."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        RunButton(ui.learnPointsButton, "learn points", session.runner, self.learn_points)
        RunButton(ui.learnOrgansButton, "learn organs", session.runner, self.learn_organs)
        ui.pointsSelector.currentNodeChanged.connect(self._on_points_changed)
        self._on_points_changed()

    def _on_points_changed(self, *_arguments) -> None:
        self._ui.pointsWidget.setCurrentNode(self._ui.pointsSelector.currentNode())

    def learn_points(self) -> None:
        """Learn the clicked landmarks."""
        self._learn("learn points", points_node=self._ui.pointsSelector.currentNode())

    def learn_organs(self) -> None:
        """Learn the visible segments."""
        self._learn("learn organs", segmentation_node=self._ui.segmentationSelector.currentNode())

    def _learn(self, owner: str, **sources) -> None:
        session, support = self._session, self._ui.supportSelector.currentNode()

        def make_task():
            return session.logic.learnTask(support, session.library, session.run_settings(), **sources)

        session.start(owner, make_task, self._on_learned)

    def _on_learned(self, library) -> None:
        before = self._session.library.names if self._session.library else ()
        new = [name for name in library.names if name not in before]
        if new:
            text = _("Learned {names}.").format(names=", ".join(new))
        else:
            text = _("Learned again: the landmarks now have this support scan, too.")
        self._session.set_library(library, text)
