"""Where model files of the user's own lie on this computer. Scenes keep their names only: a path can name people."""

from pathlib import Path

import slicer

SETTING = "APELocalizer/ModelFiles/"
"""Slicer's user settings keep the path of a model file under this and its name."""


class ModelFiles:
    """Paths of model files by their names; kept in Slicer's user settings, outside Slicer for this session."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}

    def add(self, path: str | Path) -> str:
        """Remember a model file: the name to keep in the scene. A later file of the same name takes its place."""
        name = Path(path).name
        self._paths[name] = str(path)
        settings = _user_settings()
        if settings is not None:
            settings.setValue(SETTING + name, str(path))
        return name

    def model(self, name: str) -> str:
        """The path of a remembered model file, or `name` itself: a model id, or a file that is not known here."""
        settings = _user_settings()
        kept = settings.value(SETTING + name) if settings is not None else None
        return self._paths.get(name) or kept or name


def _user_settings():
    """Slicer's user settings, or None outside Slicer."""
    get_settings = getattr(getattr(slicer, "app", None), "userSettings", None)
    return get_settings() if get_settings else None
