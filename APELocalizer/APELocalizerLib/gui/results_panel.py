"""The result table: one row per landmark and organ; a click on a row moves all slices there."""

import qt
import slicer
from slicer.i18n import tr as _

from APELocalizerLib.gui.session import Session

COLUMNS = ("Name", "Status", "R (mm)", "A (mm)", "S (mm)", "Round trip (mm)")
"""Columns of the scene's result table (see `scene.results`) in the order of the panel's."""


class ResultsPanel:
    """Section “Results”: shows the result table that the parameter node refers to."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._shown = None
        header = ui.resultTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        ui.resultTable.cellClicked.connect(self._on_clicked)
        ui.resultTable.currentCellChanged.connect(self._on_clicked)
        session.listeners.append(self.update)

    def update(self) -> None:
        """Fill the table anew if there is another result."""
        node = self._session.parameters.resultTable if self._session.parameters else None
        version = (node, node.GetMTime()) if node else None
        if version == self._shown:
            return
        self._shown = version
        self._session.selected_landmark = ""
        rows = table_rows(node) if node else []
        table = self._ui.resultTable
        table.blockSignals(True)
        table.clearContents()
        table.rowCount = len(rows)
        for number, row in enumerate(rows):
            self._fill(number, row)
        table.setCurrentCell(-1, -1)
        table.blockSignals(False)

    def _fill(self, number: int, row: dict[str, str]) -> None:
        found = row["Status"] == "found"
        for column, title in enumerate(COLUMNS):
            text = (_("✓ found") if found else _("✗ not found")) if title == "Status" else row[title]
            item = qt.QTableWidgetItem(text)
            item.setToolTip(row["Note"])
            if column >= COLUMNS.index("R (mm)"):
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            self._ui.resultTable.setItem(number, column, item)

    def _on_clicked(self, number: int, *_arguments) -> None:
        node = self._session.parameters.resultTable if self._session.parameters else None
        if node is None or not 0 <= number < node.GetNumberOfRows():
            return
        row = table_rows(node)[number]
        self._session.selected_landmark = row["Name"] if row["Kind"] == "landmark" else ""
        position = self._position(row)
        if position is None:
            self._session.say(_("{name} was not found: {reason}").format(name=row["Name"], reason=row["Note"]))
            return
        mode = slicer.vtkMRMLSliceNode.CenteredJumpSlice
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position, mode)
        self._session.changed()

    def _position(self, row: dict[str, str]) -> tuple[float, ...] | None:
        """Where the result is now (RAS mm): the point itself if it is still there, else what the table says."""
        points = self._session.parameters.resultPoints
        if row["Status"] != "found":
            return None
        index = points.GetControlPointIndexByLabel(row["Name"]) if points else -1
        if index >= 0 and row["Kind"] == "landmark":
            return tuple(points.GetNthControlPointPositionWorld(index))
        return tuple(float(row[axis]) for axis in ("R (mm)", "A (mm)", "S (mm)"))


def table_rows(node) -> list[dict[str, str]]:
    """Rows of a table node as texts by column title."""
    table = node.GetTable()
    titles = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
    return [
        {title: table.GetValue(row, column).ToString() for column, title in enumerate(titles)}
        for row in range(table.GetNumberOfRows())
    ]
