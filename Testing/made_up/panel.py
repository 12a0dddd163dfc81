"""The module's panel as its tests use it; written in PythonQt's property syntax (see `slicer_stand_ins`)."""

import time

import numpy as np
import slicer
import slicer.util
from PySide6.QtWidgets import QApplication

from made_up.embedders import KnowingEmbedder


class Panel:
    """The open panel, and what a user does with it."""

    def __init__(self, widget, embedder: KnowingEmbedder) -> None:
        self.widget, self.ui, self.session, self.embedder = widget, widget.ui, widget.session, embedder

    @property
    def parameters(self):
        return self.session.parameters

    def click(self, name: str) -> None:
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} is disabled"
        button.click()

    def wait(self, condition=None, seconds: float = 60.0) -> None:
        """Let Qt work until the condition holds; by default until no task runs."""
        condition = condition or (lambda: not self.session.runner.busy)
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            QApplication.processEvents()
            time.sleep(0.002)
        QApplication.processEvents()

    def learn(self, patient) -> None:
        """Learn the patient's clicks."""
        self.ui.supportSelector.setCurrentNode(patient.volume)
        self.ui.pointsSelector.setCurrentNode(patient.points)
        self.click("learnPointsButton")
        self.wait()

    def shown_scan(self):
        """The background of the red slice view."""
        composite = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        return slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")

    def center(self) -> np.ndarray:
        """Where the slice views meet (RAS mm)."""
        node = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
        return slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, 3]

    def localize(self, volume) -> None:
        """Find the library on a scan."""
        self.ui.scanSelector.setCurrentNode(volume)
        self.click("localizeButton")
        self.wait()

    def rows(self) -> list[list[str]]:
        """Texts of the result table: name, status, expected error, round trip, and R, A, S."""
        table = self.ui.resultTable
        return [[table.item(row, column).text() for column in range(7)] for row in range(table.rowCount)]
