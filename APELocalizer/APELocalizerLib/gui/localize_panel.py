"""Finding the library's landmarks on a scan."""

import qt
import slicer
from slicer.i18n import tr as _

from APELocalizerLib.gui.run_button import RunButton
from APELocalizerLib.gui.session import Session
from APELocalizerLib.scene.choices import Overlay, Spacing
from APELocalizerLib.scene.overlay_keeper import overlay_ids
from APELocalizerLib.scene.slice_views import rendering_paused
from APELocalizerLib.scene.tasks import LocalizeTask
from APELocalizerLib.scene.wording import run_summary

ENABLED, DISABLED = None, 0
"""Data of a combo box's item in the role before `UserRole`: Qt's own way to gray an item."""


class LocalizePanel:
    """Section “Find on another scan”."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._task: LocalizeTask | None = None
        self._offered: tuple[str, ...] | None = None
        RunButton(ui.localizeButton, "localize", session.runner, self.localize)
        session.listeners.append(self.update)

    def update(self) -> None:
        """Offer CTs only, no overlays, and the accuracies that the model has, as soon as that is known."""
        for selector in (self._ui.scanSelector, self._ui.supportSelector):
            selector.sortFilterProxyModel().hiddenNodeIDs = list(overlay_ids())
        session = self._session
        offered = session.run_settings().engine(session.logic.engine).spacings() if session.parameters else None
        if offered == self._offered:
            return
        self._offered = offered
        for index, spacing in enumerate(Spacing):
            there = offered is None or spacing.value in offered
            text = spacing.label() if there else _("{label} (not with this model)").format(label=spacing.label())
            self._ui.spacingComboBox.setItemText(index, text)
            self._ui.spacingComboBox.setItemData(index, ENABLED if there else DISABLED, qt.Qt.UserRole - 1)

    def localize(self) -> None:
        """Find all landmarks and organs on the selected scan; asks if it is the support itself."""
        session, scan = self._session, self._ui.scanSelector.currentNode()
        parameters = session.parameters
        if parameters is None:  # a scene is being loaded
            return
        if scan is not None and scan is self._ui.supportSelector.currentNode():
            question = _(
                "“{name}” is the support scan, on which the landmarks were clicked. Finding them there says nothing "
                "about how well they are found on other scans. Localize on it anyway?"
            ).format(name=scan.GetName())
            if not slicer.util.confirmOkCancelDisplay(question):
                return

        def make_task() -> LocalizeTask:
            rgb = parameters.overlay is Overlay.RGB
            self._task = task = session.logic.localizeTask(scan, session.library, session.run_settings(), overlay=rgb)
            return task

        session.start("localize", make_task, lambda nodes: self._on_localized(scan, nodes))

    def _on_localized(self, scan, nodes) -> None:
        session = self._session
        from APELocalizerLib.scene.earlier_results import hide_earlier_results, replace_earlier_results

        parameters, task = session.parameters, self._task
        self._task = None
        if parameters is None or task is None:  # a scene is being loaded: it is not shown yet
            return
        with rendering_paused():
            keep = replace_earlier_results if parameters.replaceResults else hide_earlier_results
            keep(scan, nodes)
            session.keep_library_in_scene()
            session.warnings = task.warnings
            session.status = run_summary(task.localization, session.logic.folderName(nodes))
            session.selected_landmark = ""
            session.result = nodes.table_node
            parameters.resultPoints = nodes.points_node
            parameters.resultTable = nodes.table_node
            session.changed()
