"""How sure an answer is: from the localization through the table node to the words of the panel."""

from dataclasses import make_dataclass

import pytest
import slicer_stand_ins.installed  # noqa: F401  (wording speaks Slicer's translations)

from APELocalizerLib.core.localization.answers import LocatedPoint
from APELocalizerLib.scene.result_rows import result_rows
from APELocalizerLib.scene.result_table import fill_table
from APELocalizerLib.scene.wording import row_tip, run_summary, status_text

CERTAINTY = [("grade", str, ""), ("expected_error_mm", float, float("nan")), ("radius_90_mm", float, float("nan"))]
Graded = make_dataclass("Graded", CERTAINTY, bases=(LocatedPoint,), frozen=True)


def graded(found=True, reason="", **certainty):
    """A landmark's answer."""
    position, color = (1.0, 2.0, 3.0), (1.0, 1.0, 0.0)
    return Graded("lung_apex_right", found, position, position, 3.2, 0.5, reason, color, **certainty)


@pytest.fixture
def row_of(a_scene, a_localization):
    """The table row of a landmark."""

    def of(**answer):
        point = graded(**answer)
        node = a_scene.AddNewNodeByClass("vtkMRMLTableNode")
        fill_table(node, type(a_localization)(**{**vars(a_localization), "points": (point,), "organs": ()}))
        (row,) = result_rows(node)
        return row

    return of


def test_a_sure_answer_says_its_expected_error(row_of):
    row = row_of(grade="sure", expected_error_mm=6.04, radius_90_mm=14.0)
    assert status_text(row) == "✓ sure" and row.expected_error == "6.0"
    tip = row_tip(row)
    assert tip.startswith("right lung apex") and "6.0 mm" in tip and "14.0 mm in 9 of 10" in tip
    assert "Round trip 3.2 mm, a consistency check" in tip


def test_a_doubtful_answer_asks_to_be_checked(row_of):
    assert status_text(row_of(grade="check", expected_error_mm=17.0, radius_90_mm=60.0)) == "? check"


def test_an_answer_of_a_model_without_known_errors_claims_nothing(row_of):
    row = row_of()
    assert status_text(row) == "✓ found" and row.expected_error == "" and "Expected" not in row_tip(row)


def test_what_was_not_found_says_why_and_no_error(row_of):
    row = row_of(found=False, reason="outside the field of view", grade="not found")
    assert status_text(row) == "✗ not found"
    assert row_tip(row) == "right lung apex\noutside the field of view"


def test_the_summary_says_how_many_to_check(a_localization):
    answers = (graded(grade="sure"), graded(grade="check"), graded(found=False, grade="not found"))
    localization = type(a_localization)(**{**vars(a_localization), "points": answers, "organs": ()})
    assert run_summary(localization, "scan landmarks").startswith("Found 2 of 3, 1 to check. ")
    assert "check" not in run_summary(a_localization, "scan landmarks"), "nothing is claimed where nothing is known"
