"""Progress of the running task, or how the last one ended, and what it warns of."""

from APELocalizerLib.gui.session import Session
from APELocalizerLib.scene.wording import warnings_text


class StatusPanel:
    """The progress bar, the line of text and the warnings below the “Localize” button."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        session.listeners.append(self.update)
        session.runner.listeners.append(self.update)
        self.update()

    def update(self) -> None:
        """Show the runner's progress, or the session's status while nothing runs."""
        runner = self._session.runner
        fraction, text = runner.progress
        self._ui.progressBar.visible = runner.busy
        self._ui.progressBar.value = int(self._ui.progressBar.maximum * fraction)
        self._ui.statusLabel.text = text if runner.busy else self._session.status
        self._ui.statusLabel.visible = bool(self._ui.statusLabel.text)
        self._ui.warningsLabel.text = "" if runner.busy else warnings_text(self._session.warnings)
        self._ui.warningsLabel.visible = bool(self._ui.warningsLabel.text)
