"""Stand-in for Slicer's list of placed points."""

import vtk
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)


class qSlicerSimpleMarkupsWidget(QWidget):
    """Places points and shows their names and positions.

    As in Slicer it ignores None once its node is no longer in the scene, and notes for each point the scan in view.
    """

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._node, self._observer = None, None
        self._table, self._place = QTableWidget(0, 4), QToolButton()
        self._place.setText("Place a point")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._place)
        layout.addWidget(self._table)
        self._table.setHorizontalHeaderLabels(["Label", "R", "A", "S"])
        self._table.horizontalHeader().setSectionResizeMode(0, QHeaderView.Stretch)
        for column in (1, 2, 3):
            self._table.setColumnWidth(column, 64)
        self._table.verticalHeader().hide()
        self._table.verticalHeader().setDefaultSectionSize(22)
        self._table.setWordWrap(False)
        self._table.setEditTriggers(QAbstractItemView.NoEditTriggers)

    def setMRMLScene(self, scene) -> None:
        """The points come from the current node."""

    def currentNode(self):
        return self._node

    def place(self, name: str, position) -> None:
        """What a click of the user in a slice view does."""
        scene = self._node.GetScene()
        composite = scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        index = self._node.AddControlPointWorld(position, name)
        self._node.SetNthControlPointAssociatedNodeID(index, composite.GetBackgroundVolumeID())
        self._node.InvokeEvent(self._node.PointPositionDefinedEvent)

    def names(self) -> list[str]:
        """Names of the points that are listed."""
        return [self._table.item(row, 0).text() for row in range(self._table.rowCount())]

    def setCurrentNode(self, node) -> None:
        if node is None and self._node is not None and self._node.GetScene() is None:
            return
        if self._node is not None:
            self._node.RemoveObserver(self._observer)
        self._node = node
        if node is not None:
            self._observer = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._update())
        self._update()

    def _update(self) -> None:
        count = self._node.GetNumberOfControlPoints() if self._node else 0
        self._table.setRowCount(count)
        for row in range(count):
            position = self._node.GetNthControlPointPositionWorld(row)
            texts = [self._node.GetNthControlPointLabel(row), *(f"{value:.1f}" for value in position)]
            for column, text in enumerate(texts):
                self._table.setItem(row, column, QTableWidgetItem(text))
