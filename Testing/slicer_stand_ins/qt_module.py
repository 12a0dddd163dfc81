"""PythonQt's `qt` module: all of PySide6 under one name, with the few functions that PythonQt has otherwise."""

import re

from PySide6.QtCore import *  # noqa: F403
from PySide6.QtCore import QBuffer, QObject
from PySide6.QtGui import *  # noqa: F403
from PySide6.QtUiTools import QUiLoader as _QUiLoader
from PySide6.QtWidgets import *  # noqa: F403

# PythonQt calls the object name `name`.
QObject.name = property(lambda self: self.objectName())


class QUiLoader(_QUiLoader):
    """A loader that knows Slicer's widgets, as the application's own loader does."""

    def __init__(self) -> None:
        from slicer_stand_ins.widgets import CUSTOM_WIDGETS

        super().__init__()
        for widget in CUSTOM_WIDGETS:
            self.registerCustomWidget(widget)

    def load(self, file):
        """Load without the connections: they name C++ types, and `qMRMLWidget.setMRMLScene` does what they do."""
        buffer = QBuffer()
        buffer.setData(re.sub(rb"<connections>.*</connections>", b"", bytes(file.readAll()), flags=re.DOTALL))
        return super().load(buffer)


class QFileDialog:
    """In PythonQt the static functions return the path alone. Here the user always closes the dialog."""

    @staticmethod
    def getOpenFileName(*arguments) -> str:
        return ""

    @staticmethod
    def getSaveFileName(*arguments) -> str:
        return ""
