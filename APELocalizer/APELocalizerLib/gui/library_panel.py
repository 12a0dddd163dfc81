"""The landmark library: what it holds, new, open, built-in, save, undo."""

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from APELocalizerLib.app.engine import BUILT_IN
from APELocalizerLib.gui.messages import errors_shown
from APELocalizerLib.gui.session import Session
from APELocalizerLib.scene.privacy import without_coarse_ct
from APELocalizerLib.scene.wording import coarse_ct_question, library_summary, library_tip

ENDING = ".json"


class LibraryPanel:
    """Section “Landmark library”."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        ui.newLibraryButton.clicked.connect(self._on_new)
        ui.openLibraryButton.clicked.connect(self._on_open)
        ui.builtInLibraryButton.clicked.connect(self._on_built_in)
        ui.saveLibraryButton.clicked.connect(self._on_save)
        ui.undoLibraryButton.clicked.connect(self._on_undo)
        session.listeners.append(self.update)
        session.runner.listeners.append(self.update)
        self.update()

    def update(self) -> None:
        """Show the session's library."""
        ui, session = self._ui, self._session
        holds_any = bool(session.library and session.library.names)
        idle = not session.runner.busy
        ui.librarySummaryLabel.text = library_summary(session.library)
        ui.librarySummaryLabel.toolTip = library_tip(session.library)
        ui.newLibraryButton.enabled = idle and holds_any
        ui.openLibraryButton.enabled = idle
        ui.builtInLibraryButton.enabled = idle
        ui.builtInLibraryButton.visible = session.logic.builtInLibraryPath() is not None
        ui.saveLibraryButton.enabled = holds_any
        ui.undoLibraryButton.enabled = idle and session.can_undo

    def _on_new(self, *_arguments) -> None:
        self._session.set_library(None, _("A new, empty library was started. Use Undo to get the former one back."))

    def _on_open(self, *_arguments) -> None:
        path = qt.QFileDialog.getOpenFileName(
            self._ui.openLibraryButton, _("Open a landmark library"), "", _("Landmark libraries (*.json)")
        )
        if path:
            self._open(path)

    def _on_built_in(self, *_arguments) -> None:
        self._open(self._session.logic.builtInLibraryPath())

    def _open(self, path: str) -> None:
        with errors_shown():
            library = self._session.logic.loadLibrary(path)
            name = BUILT_IN if path == self._session.logic.builtInLibraryPath() else Path(path).name
            self._session.set_library(library, _("Opened {path}").format(path=path), file_name=name)

    def _on_save(self, *_arguments) -> None:
        path = qt.QFileDialog.getSaveFileName(
            self._ui.saveLibraryButton, _("Save the library"), "landmarks.json", _("Landmark libraries (*.json)")
        )
        if path and not path.lower().endswith(ENDING):
            path += ENDING
            question = _("{path} exists already. Replace it?").format(path=path)
            if Path(path).exists() and not slicer.util.confirmOkCancelDisplay(question):
                return  # the dialog asked about the name without the ending only
        if path:
            with errors_shown():
                self._save(path)

    def _save(self, path: str) -> None:
        """Write the library, and ask whether with the supports' coarse CTs if it holds any."""
        session, question = self._session, coarse_ct_question(self._session.library)
        if question and not slicer.util.confirmYesNoDisplay(question):
            session.logic.saveLibrary(without_coarse_ct(session.library), path)
            session.say(_("Saved {path} without CTs").format(path=path))
            return
        session.logic.saveLibrary(session.library, path)
        session.was_saved(path)

    def _on_undo(self, *_arguments) -> None:
        self._session.undo()
