"""Finding the library's landmarks on a scan."""

from slicer.i18n import tr as _

from APELocalizerLib.gui.choices import Overlay
from APELocalizerLib.gui.run_button import RunButton
from APELocalizerLib.gui.session import Session


class LocalizePanel:
    """Section “Find on another scan”."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._task = None
        RunButton(ui.localizeButton, "localize", session.runner, self.localize)

    def localize(self) -> None:
        """Find all landmarks and organs on the selected scan."""
        session, scan = self._session, self._ui.scanSelector.currentNode()

        def make_task():
            rgb = session.parameters.overlay is Overlay.RGB
            self._task = session.logic.localizeTask(scan, session.library, session.run_settings(), overlay=rgb)
            return self._task

        session.start("localize", make_task, self._on_localized)

    def _on_localized(self, nodes) -> None:
        session = self._session
        session.logic.storeLibrary(session.library, session.run_settings())
        session.status = self._summary(nodes)
        session.result = nodes.table_node
        session.parameters.resultPoints = nodes.points_node
        session.parameters.resultTable = nodes.table_node
        session.changed()

    def _summary(self, nodes) -> str:
        """How many were found, where the nodes are, and what had to be done differently (for want of memory)."""
        localization = self._task.localization
        results = (*localization.points, *localization.organs)
        text = _("{found} of {all} found. The results are in the folder “{name}” of the Data module. {notes}")
        return text.format(
            found=sum(result.found for result in results),
            all=len(results),
            name=self._session.logic.folderName(nodes),
            notes=" ".join(localization.notes),
        ).strip()
