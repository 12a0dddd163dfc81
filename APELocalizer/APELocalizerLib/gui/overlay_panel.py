"""What is drawn over the scan, and how strongly."""

from APELocalizerLib.gui.choices import Overlay
from APELocalizerLib.gui.messages import errors_shown
from APELocalizerLib.gui.session import Session

SCAN_REFERENCE = "APELocalizer.scan"
"""Reference role of a result node to its scan (see `scene.results`)."""


class OverlayPanel:
    """Section “Overlay”: keeps the slice views as the combo box and the slider say."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._shown = None
        session.listeners.append(self.update)

    def update(self) -> None:
        """Show the chosen overlay if it is not the one shown already."""
        session = self._session
        if session.parameters is None or session.runner.busy:
            return
        result, overlay = session.parameters.resultTable, session.parameters.overlay
        if result is None:
            self._shown = None
            return
        landmark = session.selected_landmark if overlay is Overlay.SIMILARITY else ""
        wanted = (result, overlay, landmark, session.parameters.opacity)
        if wanted == self._shown:
            return
        same_but_opacity = self._shown is not None and wanted[:-1] == self._shown[:-1]
        self._shown = wanted
        with errors_shown():
            if same_but_opacity:
                session.logic.overlays.set_opacity(session.parameters.opacity)
            elif overlay is not Overlay.SIMILARITY or landmark:
                session.logic.overlays.show(
                    result.GetNodeReference(SCAN_REFERENCE),
                    overlay.value,
                    session.parameters.opacity,
                    session.run_settings(),
                    session.library,
                    landmark,
                )
