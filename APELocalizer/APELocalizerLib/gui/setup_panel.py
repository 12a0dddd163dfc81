"""What the module needs to run: three status lights with a button that helps, and the choice of device and model."""

from functools import partial

import qt
import slicer
from slicer.i18n import tr as _

from APELocalizerLib.gui.messages import errors_shown, show_error
from APELocalizerLib.gui.session import Session
from APELocalizerLib.gui.warm_up import WarmUp
from APELocalizerLib.scene import setup_status
from APELocalizerLib.scene.setup_status import Available, Light
from APELocalizerLib.scene.tasks import CallTask

COLORS = {True: "#2e9e44", False: "#d0342c", None: "#b0b0b0"}


class SetupPanel:
    """Section “Setup”; opens by itself while a light is red."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._available: Available | None = None
        self._filling = False
        self._looking = self._failed = False
        self._lights = (
            (ui.torchLight, ui.torchLabel, ui.torchButton),
            (ui.deviceLight, ui.deviceLabel, None),
            (ui.weightsLight, ui.weightsLabel, ui.weightsButton),
        )
        ui.torchButton.clicked.connect(self._on_torch)
        ui.weightsButton.clicked.connect(self._on_weights)
        ui.modelFileButton.clicked.connect(self._on_model_file)
        ui.freeMemoryButton.clicked.connect(self._on_free_memory)
        ui.deviceComboBox.currentIndexChanged.connect(self._on_device)
        ui.modelComboBox.currentIndexChanged.connect(self._on_model)
        session.listeners.append(self.update)
        session.runner.listeners.append(self._update_enabled)
        self._warm_up = WarmUp(session, self._look_up_unless_failed)
        self.update()
        ui.setupSection.contentsCollapsed.connect(self._on_collapsed)
        ui.setupSection.collapsed = all(light.ok is not False for light in self.lights())

    def lights(self) -> tuple[Light, Light, Light]:
        """PyTorch, device, weights."""
        chosen = self._session.run_settings()
        return (
            setup_status.pytorch_light(),
            setup_status.device_light(self._available, chosen.device),
            setup_status.weights_light(self._available, chosen.model),
        )

    def update(self) -> None:
        """Show the state of everything."""
        for light, (mark, label, button) in zip(self.lights(), self._lights, strict=True):
            mark.text = f'<span style="color:{COLORS[light.ok]}">●</span>'
            label.text = light.text
            if button is not None:
                button.text, button.visible = light.action, bool(light.action)
        self._fill_combo_boxes()
        self._update_enabled()

    def look_up(self) -> None:
        """Look up devices and models, once, in the worker thread, for loading PyTorch takes seconds.

        Not before the user opens the section or chooses something: opening the module loads nothing. After a failure,
        which is told, only when the section is opened again or something was installed.
        """
        if self._available is None and not self._looking and setup_status.pytorch_light().ok:
            self._looking = True
            self._session.runner.in_background(setup_status.look_up, self._on_looked_up)

    def _look_up_unless_failed(self) -> None:
        if not self._failed:
            self.look_up()

    def _on_collapsed(self, collapsed: bool) -> None:
        if not collapsed:
            self.look_up()

    def _on_looked_up(self, job) -> None:
        self._looking, self._failed = False, job.error is not None
        if self._failed:
            show_error(job.error)
            return
        self._available = job.result
        self.update()
        if any(light.ok is False for light in self.lights()):
            self._ui.setupSection.collapsed = False

    def _update_enabled(self) -> None:
        ui, runner = self._ui, self._session.runner
        for widget in (ui.deviceComboBox, ui.modelComboBox, ui.modelFileButton, ui.freeMemoryButton, ui.torchButton):
            widget.enabled = not runner.busy
        downloading = runner.owner == "download"
        ui.weightsButton.enabled = not runner.cancelling if downloading else not runner.busy
        if downloading:
            ui.weightsButton.text = _("Cancel")

    # Combo boxes -------------------------------------------------------------------------------------------------

    def _fill_combo_boxes(self) -> None:
        session, chosen = self._session, self._session.run_settings()
        model = session.parameters.model if session.parameters else chosen.model
        self._filling = True
        devices = self._available.devices if self._available else (("auto", _("Automatic")),)
        models = self._available.models if self._available else (("default", _("Default")),)
        fill(self._ui.deviceComboBox, list(devices), chosen.device)
        fill(self._ui.modelComboBox, list(models), model)
        self._filling = False

    def _on_device(self, *_arguments) -> None:
        self._choose("device", self._ui.deviceComboBox)

    def _on_model(self, *_arguments) -> None:
        self._choose("model", self._ui.modelComboBox)

    def _choose(self, parameter: str, box) -> None:
        if not self._filling and self._session.parameters is not None and box.currentIndex >= 0:
            setattr(self._session.parameters, parameter, box.itemData(box.currentIndex))
            self._session.changed()

    # Buttons -----------------------------------------------------------------------------------------------------

    def _on_torch(self, *_arguments) -> None:
        with errors_shown():
            self._session.say(self._session.logic.installTorch())
        self.look_up()

    def _on_weights(self, *_arguments) -> None:
        if self._session.runner.owner == "download":
            self._session.runner.cancel()
            return
        model = self._session.run_settings().model
        if slicer.util.confirmOkCancelDisplay(setup_status.download_question(model)):
            task = CallTask(partial(setup_status.download, model))
            self._session.start("download", lambda: task, self._on_downloaded)

    def _on_downloaded(self, path) -> None:
        self._session.say(_("The weights were downloaded to {path}").format(path=path))

    def _on_model_file(self, *_arguments) -> None:
        path = qt.QFileDialog.getOpenFileName(
            self._ui.modelFileButton, _("Choose a model file"), "", _("Model files (*.pt *.pth);;All files (*)")
        )
        if path and self._session.parameters is not None:
            self._session.parameters.model = self._session.model_files.add(path)
            self._session.changed()

    def _on_free_memory(self, *_arguments) -> None:
        """In the worker thread, after what it still does: it may be using what is to be removed."""
        engine = self._session.logic.engine
        self._session.runner.stop_preparing()
        self._session.runner.in_background(lambda progress, cancelled: engine.release(), self._on_freed)

    def _on_freed(self, job) -> None:
        self._warm_up.forget()
        self._session.say(_("Memory was freed. The model is loaded again when it is needed."))


def fill(box, choices: list[tuple[str, str]], chosen: str) -> None:
    """Let a combo box offer (value, text) choices and show the chosen value, which is added if it is missing."""
    if chosen not in dict(choices):
        choices = [*choices, (chosen, chosen.replace("\\", "/").rsplit("/", 1)[-1])]
    if [(box.itemData(index), box.itemText(index)) for index in range(box.count)] != choices:
        box.clear()
        for value, text in choices:
            box.addItem(text, value)
    box.currentIndex = [value for value, _text in choices].index(chosen)
