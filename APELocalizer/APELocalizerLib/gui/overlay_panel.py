"""What is drawn over the scan, and how strongly."""

from slicer.i18n import tr as _

from APELocalizerLib.gui.messages import errors_shown
from APELocalizerLib.gui.session import Session
from APELocalizerLib.scene.choices import Overlay
from APELocalizerLib.scene.nodes import TableNode
from APELocalizerLib.scene.references import SCAN_REFERENCE


class OverlayPanel:
    """Section “Overlay”: keeps the slice views as the combo box and the slider say.

    A result that was loaded with a scene is shown as the scene says until something is chosen here. While another
    module is open its views are left alone.
    """

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._shown: tuple[TableNode | None, Overlay, str, float] | None = None
        session.listeners.append(self.update)

    def update(self) -> None:
        """Show the chosen overlay if it is not the one shown already."""
        session = self._session
        if session.parameters is None or session.runner.busy or not session.in_front:
            return
        chosen = session.parameters
        result, overlay, opacity = chosen.resultTable, chosen.overlay, chosen.opacity
        landmark = session.selected_landmark if overlay is Overlay.SIMILARITY else ""
        self._show_hint(result is not None and overlay is Overlay.SIMILARITY and not landmark)
        before, self._shown = self._shown, (result, overlay, landmark, opacity)
        is_loaded = result is not session.result and (before is None or before[0] is not result)
        if result is None or before == self._shown or is_loaded:
            return
        with errors_shown():
            if before is not None and before[:-1] == self._shown[:-1]:
                session.logic.overlays.set_opacity(opacity)
            else:
                self._show(result.GetNodeReference(SCAN_REFERENCE), overlay, landmark, opacity)

    def _show(self, scan, overlay: Overlay, landmark: str, opacity: float) -> None:
        overlays = self._session.logic.overlays
        if overlay is Overlay.SIMILARITY and not landmark:
            overlays.show(scan, "none")
        else:
            overlays.show(scan, overlay.value, opacity, library=self._session.library, landmark=landmark)

    def _show_hint(self, wanted: bool) -> None:
        text = _("Click a landmark in the table to see where the scan is similar to it.") if wanted else ""
        self._ui.overlayHintLabel.text = text
        self._ui.overlayHintLabel.visible = bool(text)
