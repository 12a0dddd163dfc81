"""What the panels share: logic, parameters, running task, library with its history, and the last result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from APELocalizerLib.app.library_history import LibraryHistory
from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.gui.messages import errors_shown, show_error
from APELocalizerLib.gui.runner import TaskRunner
from APELocalizerLib.scene.choices import SupportCTs
from APELocalizerLib.scene.model_files import ModelFiles
from APELocalizerLib.scene.nodes import TableNode
from APELocalizerLib.scene.parameter_node import APELocalizerParameterNode
from APELocalizerLib.scene.privacy import belongs_in_scene, without_coarse_ct
from APELocalizerLib.scene.run_settings import RunSettings
from APELocalizerLib.scene.tasks import Task
from APELocalizerLib.scene.wording import restored_warnings


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
        self.model_files = ModelFiles()
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

    def set_library(self, library, status: str, warnings: tuple[str, ...] = (), file_name: str = "") -> None:
        """Use another library, store it in the scene, and keep the former for undo. `file_name`: the file it is in."""
        self._history.replace(library)
        if file_name:
            self._history.is_in_file(file_name)
        self._store(status, warnings)

    def was_saved(self, path: str) -> None:
        """The library in use was written to a file, with all that it holds."""
        self._history.is_in_file(Path(path).name)
        self._store(_("Saved {path}").format(path=path))

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
        if stored is None or (self.library is not None and stored == without_coarse_ct(self.library)):
            return
        if self._history.adopt(stored):
            self.say(_("The landmark library of this scene is in use."), restored_warnings(stored))

    @property
    def coarse_ct_in_scene(self) -> bool:
        """Whether the scene keeps the library's coarse copies of the support CTs."""
        choice = self.parameters.supportCTs if self.parameters else SupportCTs.UNLESS_IN_FILE
        return belongs_in_scene(choice, bool(self._history.file_name))

    def keep_library_in_scene(self) -> None:
        """Keep the library in the scene as it is now, with the supports' coarse CTs only where they are wanted."""
        self.logic.storeLibrary(self.library, self.run_settings(), self.coarse_ct_in_scene, self._history.file_name)

    def _store(self, status: str, warnings: tuple[str, ...] = ()) -> None:
        self.keep_library_in_scene()
        self.say(status, warnings)

    # Tasks -------------------------------------------------------------------------------------------------------

    def run_settings(self) -> RunSettings:
        """Spacing, device and model as chosen in the panel."""
        chosen = self.parameters
        if chosen is None:
            return RunSettings()
        return RunSettings(chosen.spacing.value, chosen.device, self.model_files.model(chosen.model))

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
        if isinstance(error, Cancelled):
            self.say(_("Canceled. Nothing was changed."))
            return
        self.say(_("Stopped by an error. Nothing was changed."))
        show_error(error)
