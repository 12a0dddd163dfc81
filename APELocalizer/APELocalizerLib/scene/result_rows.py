"""The rows of a result table node, and where each result lies now. No Qt."""

from dataclasses import dataclass

from APELocalizerLib.scene.nodes import MarkupsNode, TableNode

AXES = ("R (mm)", "A (mm)", "S (mm)")
ROUND_TRIP = "Round trip (mm)"
EXPECTED_ERROR = "Expected error (mm)"
RADIUS_90 = "90 % within (mm)"
GRADE = "Grade"
LIBRARY_NAME = "Library name"


@dataclass(frozen=True)
class ResultRow:
    """One landmark or organ. `label` is what is read, `name` the library's; texts are empty where nothing is known."""

    label: str
    name: str
    is_landmark: bool
    found: bool
    position: tuple[str, str, str]
    round_trip: str
    expected_error: str
    radius_90: str
    grade: str
    note: str


def result_rows(table_node: TableNode | None) -> list[ResultRow]:
    """All rows of a result table node, also of one that an older version made; none for None."""
    if table_node is None:
        return []
    table = table_node.GetTable()
    titles = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
    texts = (
        {title: table.GetValue(row, column).ToString() for column, title in enumerate(titles)}
        for row in range(table.GetNumberOfRows())
    )
    return [
        ResultRow(
            label=row["Name"],
            name=row.get(LIBRARY_NAME) or row["Name"],
            is_landmark=row["Kind"] == "landmark",
            found=row["Status"] == "found",
            position=(row[AXES[0]], row[AXES[1]], row[AXES[2]]),
            round_trip=row[ROUND_TRIP],
            expected_error=row.get(EXPECTED_ERROR, ""),
            radius_90=row.get(RADIUS_90, ""),
            grade=row.get(GRADE, ""),
            note=row["Note"],
        )
        for row in texts
    ]


def position_of(row: ResultRow, points_node: MarkupsNode | None = None) -> tuple[float, float, float] | None:
    """Where a result is now (RAS world mm): its point in the scene if that is still there, else as the table says.

    None for one that was not found.
    """
    if not row.found:
        return None
    if points_node is not None and row.is_landmark:
        index = points_node.GetControlPointIndexByLabel(row.label)
        if index >= 0:
            right, anterior, superior = points_node.GetNthControlPointPositionWorld(index)
            return right, anterior, superior
    right, anterior, superior = (float(text) for text in row.position)
    return right, anterior, superior


def first_position(table_node: TableNode, points_node: MarkupsNode | None = None) -> tuple[float, float, float] | None:
    """Where the first result that was found lies, or None if none was."""
    positions = (position_of(row, points_node) for row in result_rows(table_node))
    return next((position for position in positions if position is not None), None)
