"""Whether saved scenes hold a coarse copy of the support CTs."""

from APELocalizerLib.gui.session import Session
from APELocalizerLib.scene.choices import SupportCTs
from APELocalizerLib.scene.wording import privacy_text


class PrivacyPanel:
    """The choice in the section “Setup”, and a line below it that says what a scene that is saved now contains."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._choice: SupportCTs | None = None
        session.listeners.append(self.update)
        self.update()

    def update(self) -> None:
        """Keep the library in the scene as chosen, and say so."""
        session = self._session
        if session.parameters is None:
            return
        choice = session.parameters.supportCTs
        if self._choice not in (None, choice):
            session.keep_library_in_scene()
        self._choice = choice
        self._ui.privacyLabel.text = privacy_text(session.library, session.coarse_ct_in_scene)
        self._ui.privacyLabel.visible = bool(self._ui.privacyLabel.text)
