"""Two methods on the same questions."""

import numpy as np
import pytest

from APELocalizerLib.evaluation.retrieval_table import Retrieval
from APELocalizerLib.evaluation.significance import compare, on_common_questions, signed_rank


def row(method: str, target: str, support: str, error: float, name: str = "carina") -> Retrieval:
    return Retrieval(method, target, (support,), "landmark", name, error_mm=error)


def error(each: Retrieval) -> float:
    return each.error_mm


def test_signed_rank_is_exact_for_few_pairs():
    """Of the 2⁶ (2⁸) ways to give signs to the ranks two are as extreme as all signs alike."""
    assert signed_rank(np.array([1.0, 2, 3, 4, 5, 6])) == pytest.approx(2 / 64)
    assert signed_rank(-np.arange(1.0, 9)) == pytest.approx(2 / 256)


def test_too_few_or_equal_pairs_give_no_p():
    assert np.isnan(signed_rank(np.array([1.0, 2, 3, 4, 5])))
    assert np.isnan(signed_rank(np.zeros(10)))


def test_only_questions_that_both_answered_count():
    first = [row("a", "anna", "bert", 3), row("a", "anna", "carl", 5), row("a", "anna", "dora", float("nan"))]
    second = [row("b", "anna", "carl", 9), row("b", "anna", "dora", 1), row("b", "emil", "carl", 1)]
    result = compare(first, second, error)
    assert result.first.tolist() == [5] and result.second.tolist() == [9]
    assert [len(each) for each in on_common_questions([first, second])] == [2, 2]


def test_pairs_are_means_of_a_structure_in_a_target_or_single_retrievals():
    """Seven supports in six targets: 42 retrievals are 6 pairs, unless single retrievals are asked for."""
    targets, supports = [f"t{n}" for n in range(6)], [f"s{n}" for n in range(7)]
    first = [row("a", t, s, 10 + n) for n, t in enumerate(targets) for s in supports]
    second = [row("b", t, s, 12 + 2 * n) for n, t in enumerate(targets) for s in supports]
    result = compare(first, second, error, "target")
    assert (result.count, result.units) == (42, 6)
    assert result.p == pytest.approx(2 / 64)
    assert compare(first, second, error, "retrieval").units == 42
