"""A button that starts a task, cancels it while it runs, and waits while another one does."""

from collections.abc import Callable

from slicer.i18n import tr as _

from APELocalizerLib.gui.runner import TaskRunner


class RunButton:
    """Gives a push button these three states; its own text is that of the idle one."""

    def __init__(self, button, owner: str, runner: TaskRunner, start: Callable[[], None]) -> None:
        self._button, self._owner, self._runner, self._start = button, owner, runner, start
        self._idle_text = button.text
        button.clicked.connect(self._on_clicked)
        runner.listeners.append(self.update)

    def _on_clicked(self, *_arguments) -> None:
        if self._runner.owner == self._owner:
            self._runner.cancel()
        else:
            self._start()

    def update(self) -> None:
        """Show the state of the runner."""
        mine, cancelling = self._runner.owner == self._owner, self._runner.cancelling
        self._button.enabled = not self._runner.busy or (mine and not cancelling)
        if not mine:
            self._button.text = self._idle_text
        else:
            self._button.text = _("Canceling…") if cancelling else _("Cancel")
