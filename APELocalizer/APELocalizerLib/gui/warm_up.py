"""Getting ready for the first run while the user is still choosing."""

from collections.abc import Callable

from APELocalizerLib.app.worker import Job
from APELocalizerLib.gui.session import Session
from APELocalizerLib.scene.parameter_node import APELocalizerParameterNode


class WarmUp:
    """Loads PyTorch and makes model and library ready in the background, as soon as the user chooses something.

    Opening the panel alone loads nothing. Errors are not reported here; the run will report them. A run never
    waits for it: it is stopped when one is started.
    """

    def __init__(self, session: Session, look_up: Callable[[], None]) -> None:
        """`look_up` is called as soon as the user chooses something, before all else."""
        self._session, self._look_up = session, look_up
        self._parameters: APELocalizerParameterNode | None = None
        self._seen: tuple = ()
        self._library = None
        self._ready_on: tuple[str, str] | None = None
        self._ready_library = None
        session.listeners.append(self._look)

    def _look(self) -> None:
        session, parameters = self._session, self._session.parameters
        if parameters is None:
            return
        nodes = (parameters.scan, parameters.support, parameters.points, parameters.segmentation)
        seen = (*(node.GetID() if node else None for node in nodes), parameters.model, parameters.device)
        chosen = seen != self._seen or session.library is not self._library
        if chosen and parameters is self._parameters:  # else the panel, or a scene, was just opened
            self._look_up()
            self._get_ready()
        self._parameters, self._seen, self._library = parameters, seen, session.library

    def _get_ready(self) -> None:
        session, settings, library = self._session, self._session.run_settings(), self._session.library
        device = (settings.model, settings.device)
        if self._ready_on == device and (library is None or library is self._ready_library):
            return
        if session.runner.busy or session.logic.torchProblem():
            return
        self._ready_on, self._ready_library = device, library
        engine = settings.engine(session.logic.engine)
        session.runner.prepare(
            lambda progress, cancelled: engine.warm_up(library, cancelled),
            self._on_end,
        )

    def forget(self) -> None:
        """Model and maps were removed from memory: get ready anew at the next choice."""
        self._ready_on = self._ready_library = None

    def _on_end(self, job: Job) -> None:
        if job.error is not None:
            self.forget()
        else:
            self._session.changed()  # what the model offers is known now
