"""The result table: one row per landmark and organ; a click on a row moves all slices there."""

import qt
from slicer.i18n import tr as _

from APELocalizerLib.gui.messages import errors_shown
from APELocalizerLib.gui.session import Session
from APELocalizerLib.scene.nodes import MarkupsNode, TableNode
from APELocalizerLib.scene.references import SCAN_REFERENCE
from APELocalizerLib.scene.result_rows import ResultRow, first_position, position_of, result_rows
from APELocalizerLib.scene.slice_views import center_on, reset_3d_views
from APELocalizerLib.scene.wording import row_tip, status_text

NUMBERS_FROM = 2
"""First column of the panel's table that holds numbers."""

EXPECTED_ERROR = 2
"""Column that is hidden where nothing is known of the errors, as with models of one's own."""

WIDEST_NAME = 190
"""Pixels. Longer names are shown with an ellipsis in the middle, so that left and right stay readable."""


class ResultsPanel:
    """Section “Results”: shows the result table that the parameter node refers to."""

    def __init__(self, ui, session: Session) -> None:
        self._ui, self._session = ui, session
        self._shown: tuple[TableNode, int] | None = None
        self._rows: list[ResultRow] = []
        header = ui.resultTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Interactive)
        ui.resultTable.cellClicked.connect(self._on_clicked)
        ui.resultTable.currentCellChanged.connect(self._on_clicked)
        session.listeners.append(self.update)
        self._say("")

    def update(self) -> None:
        """Fill the table anew if there is another result, and let the views go to it if it was just found."""
        session = self._session
        node = session.parameters.resultTable if session.parameters else None
        version = (node, node.GetMTime()) if node else None
        if version == self._shown or not session.in_front:
            return
        is_new = node is not None and node is session.result and (self._shown is None or self._shown[0] is not node)
        self._shown, self._rows = version, result_rows(node)
        session.selected_landmark = ""
        self._fill()
        self._say("")
        if is_new and node is not None:
            self._go_to_result(node, session.parameters.resultPoints if session.parameters else None)

    def _go_to_result(self, table_node: TableNode, points_node: MarkupsNode | None) -> None:
        position = first_position(table_node, points_node)
        if position is not None:
            center_on(position)
        reset_3d_views()
        area = scroll_area_of(self._ui.resultTable)
        if area is not None:
            area.ensureWidgetVisible(self._ui.resultTable)

    def _fill(self) -> None:
        table = self._ui.resultTable
        table.blockSignals(True)
        table.clearContents()
        table.rowCount = len(self._rows)
        for number, row in enumerate(self._rows):
            texts = (row.label, status_text(row), row.expected_error, row.round_trip, *row.position)
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(row_tip(row))
                if column >= NUMBERS_FROM:
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(number, column, item)
        table.setColumnHidden(EXPECTED_ERROR, not any(row.expected_error for row in self._rows))
        table.resizeColumnToContents(0)
        table.setColumnWidth(0, min(table.columnWidth(0), WIDEST_NAME))
        table.setCurrentCell(-1, -1)
        table.blockSignals(False)

    def _on_clicked(self, number: int, *_arguments) -> None:
        parameters = self._session.parameters
        if parameters is None or parameters.resultTable is None or not 0 <= number < len(self._rows):
            return
        row = self._rows[number]
        self._session.selected_landmark = row.name if row.is_landmark else ""
        position = position_of(row, parameters.resultPoints)
        if position is None:
            self._say(_("{name} was not found: {reason}").format(name=row.label, reason=row.note))
        else:
            self._say("")
            with errors_shown():
                self._session.logic.overlays.bring_back(parameters.resultTable.GetNodeReference(SCAN_REFERENCE))
                center_on(position)
        self._session.changed()

    def _say(self, text: str) -> None:
        """Show a line about the selected row."""
        self._ui.resultNoteLabel.text = text
        self._ui.resultNoteLabel.visible = bool(text)


def scroll_area_of(widget):
    """The scroll area that a widget lies in, or None."""
    parent = widget.parent()
    while parent is not None and not hasattr(parent, "ensureWidgetVisible"):
        parent = parent.parent()
    return parent
