"""One landmark or organ of the library: renaming and removing it."""

from slicer.i18n import tr as _

from APELocalizerLib.core.library.spoken_names import spoken_names
from APELocalizerLib.gui.messages import errors_shown
from APELocalizerLib.gui.session import Session


class EntryPanel:
    """The row below the library's summary."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._names: tuple[str, ...] = ()
        self._renamed: dict[str, str] = {}
        ui.libraryEntryComboBox.currentIndexChanged.connect(self._on_chosen)
        ui.libraryEntryEdit.textChanged.connect(self._update_buttons)
        ui.libraryEntryEdit.returnPressed.connect(self._on_rename)
        ui.renameEntryButton.clicked.connect(self._on_rename)
        ui.removeEntryButton.clicked.connect(self._on_remove)
        session.listeners.append(self.update)
        session.runner.listeners.append(self._update_buttons)
        self.update()

    @property
    def chosen(self) -> str:
        """The chosen landmark or organ, by its name in the library; empty if there is none."""
        index = self._ui.libraryEntryComboBox.currentIndex
        return self._names[index] if 0 <= index < len(self._names) else ""

    def update(self) -> None:
        """Offer what the library holds, and keep the choice where it is still there."""
        library = self._session.library
        names = library.names if library else ()
        if names != self._names:
            chosen, selector = self._renamed.get(self.chosen, self.chosen), self._ui.libraryEntryComboBox
            self._names, self._renamed = names, {}
            blocked = selector.blockSignals(True)
            selector.clear()
            for spoken in spoken_names(names).values():
                selector.addItem(spoken)
            if names:
                selector.currentIndex = names.index(chosen) if chosen in names else 0
            selector.blockSignals(blocked)
            self._on_chosen()
        for widget in (self._ui.libraryEntryComboBox, self._ui.libraryEntryEdit):
            widget.visible = bool(names)
        self._ui.renameEntryButton.visible = self._ui.removeEntryButton.visible = bool(names)
        self._update_buttons()

    def _on_chosen(self, *_arguments) -> None:
        self._ui.libraryEntryEdit.text = self.chosen
        self._update_buttons()

    def _update_buttons(self, *_arguments) -> None:
        idle = not self._session.runner.busy
        new = self._ui.libraryEntryEdit.text.strip()
        self._ui.renameEntryButton.enabled = idle and bool(self.chosen) and new not in ("", self.chosen)
        self._ui.removeEntryButton.enabled = idle and bool(self.chosen)

    def _on_rename(self, *_arguments) -> None:
        old, new = self.chosen, self._ui.libraryEntryEdit.text.strip()
        if not self._ui.renameEntryButton.enabled:
            return
        with errors_shown():
            library = self._session.library.renamed(old, new)
            self._renamed = {old: new}
            self._session.set_library(library, _("“{old}” is now called “{new}”.").format(old=old, new=new))

    def _on_remove(self, *_arguments) -> None:
        name = self.chosen
        with errors_shown():
            library = self._session.library.without(name)
            self._session.set_library(
                library, _("“{name}” was removed from the library. Undo brings it back.").format(name=name)
            )
