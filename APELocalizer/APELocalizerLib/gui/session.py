"""What the panels share: logic, parameters, running task, library with its history, and the last result."""

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from APELocalizerLib.app.library_history import LibraryHistory
from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.gui.messages import errors_shown, show_error
from APELocalizerLib.gui.runner import TaskRunner
from APELocalizerLib.scene.nodes import TableNode
from APELocalizerLib.scene.parameter_node import APELocalizerParameterNode
from APELocalizerLib.scene.run_settings import RunSettings
from APELocalizerLib.scene.tasks import Task


class Session:
    """State of one open module panel. `listeners` are called after every change of it.

    `parameters` is the module's parameter node, or None while a scene is closed or loaded; `result` the table node of
    the last run in this session; `selected_landmark` the one chosen in the result table, by its name in the library;
    `in_front` whether the module is the one that is open: only then may it change the views.
    """

    def __init__(self, logic, runner: TaskRunner | None = None) -> None:
        self.logic = logic
        self.runner = runner or TaskRunner()
        self.parameters: APELocalizerParameterNode | None = None
        self.status = ""
        self.warnings: tuple[str, ...] = ()
        self.selected_landmark = ""
        self.result: TableNode | None = None
        self.listeners: list[Callable[[], None]] = []
        self.in_front = True
        self._history = LibraryHistory()

    def changed(self) -> None:
        """Tell every panel."""
        for listener in list(self.listeners):
            listener()

    def say(self, text: str, warnings: tuple[str, ...] = ()) -> None:
        """Show a line of status text, and below it warnings."""
        self.status, self.warnings = text, warnings
        self.changed()

    # Library -----------------------------------------------------------------------------------------------------

    @property
    def library(self):
        """The `LandmarkLibrary` in use, or None."""
        return self._history.current

    def set_library(self, library, status: str, warnings: tuple[str, ...] = ()) -> None:
        """Use another library, store it in the scene, and keep the former for undo."""
        self._history.replace(library)
        self._store(status, warnings)

    @property
    def can_undo(self) -> bool:
        """Whether the library was changed."""
        return self._history.can_undo

    def undo(self) -> None:
        """Go back to the library before the last change."""
        if self._history.undo():
            self._store(_("The last change of the library was undone."))

    def restore(self) -> None:
        """Adopt the scene's library, if it holds one; undo restores the previous one."""
        stored = None
        with errors_shown():
            stored = self.logic.storedLibrary()
        if stored is not None and self._history.adopt(stored):
            self.say(_("The landmark library of this scene is in use."))

    def _store(self, status: str, warnings: tuple[str, ...] = ()) -> None:
        self.logic.storeLibrary(self.library, self.run_settings())
        self.say(status, warnings)

    # Tasks -------------------------------------------------------------------------------------------------------

    def run_settings(self) -> RunSettings:
        """Spacing, device and model as chosen in the panel."""
        chosen = self.parameters
        return RunSettings(chosen.spacing.value, chosen.device, chosen.model) if chosen else RunSettings()

    def start(self, owner: str, make_task: Callable[[], Task], on_done: Callable[[Any], None]) -> None:
        """Make a task and run it. What goes wrong, at once or later, is shown and leaves everything as it was."""
        if self.runner.busy:
            return
        if not self.ensure_torch():
            return
        try:
            task = make_task()
        except Exception as error:
            self._failed(error)
            return
        self.status, self.warnings = "", ()
        self.runner.start(owner, task, on_done, self._failed)

    def ensure_torch(self) -> bool:
        """Whether PyTorch can be used; if not, says what to do."""
        problem = self.logic.torchProblem()
        if problem:
            self.say(problem)
            slicer.util.errorDisplay(problem)
        return not problem

    def _failed(self, error: Exception) -> None:
        self.say(str(error) if isinstance(error, Cancelled) else _("Stopped by an error. Nothing was changed."))
        if not isinstance(error, Cancelled):
            show_error(error)
