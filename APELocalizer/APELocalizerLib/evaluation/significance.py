"""Two methods on the same questions: the difference of their errors, and Wilcoxon's signed-rank test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.errors import EvaluationError
from APELocalizerLib.evaluation.retrieval_table import Retrieval

FEWEST = 6
"""With fewer pairs no difference can be significant at 5 %."""


@dataclass(frozen=True)
class Comparison:
    """Errors of the first and second method on the same `count` retrievals, and the test over `units` pairs.

    `p` is NaN with too few pairs, or where all of them are equal.
    """

    first: np.ndarray
    second: np.ndarray
    units: int
    p: float

    @property
    def count(self) -> int:
        """Number of retrievals that both methods made."""
        return len(self.first)


def compare(
    first: Sequence[Retrieval],
    second: Sequence[Retrieval],
    value: Callable[[Retrieval], float],
    unit: str = "target",
) -> Comparison:
    """Compare two methods where both have a value; `unit` as `Protocol.wilcoxon_unit`."""
    value_of_second = {row.question: value(row) for row in second}
    pairs = [(row, value(row), value_of_second[row.question]) for row in first if row.question in value_of_second]
    pairs = [(row, a, b) for row, a, b in pairs if np.isfinite(a) and np.isfinite(b)]
    a, b = np.array([pair[1] for pair in pairs]), np.array([pair[2] for pair in pairs])
    groups: dict[tuple, list[int]] = {}
    for number, (row, _, _) in enumerate(pairs):
        key = (row.target, row.kind, row.name, row.definition) if unit == "target" else (number,)
        groups.setdefault(key, []).append(number)
    differences = np.array([a[group].mean() - b[group].mean() for group in groups.values()])
    return Comparison(a, b, len(differences), signed_rank(differences))


def signed_rank(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; NaN with too few differences, or if all are zero."""
    try:
        from scipy.stats import wilcoxon
    except ImportError as error:
        raise EvaluationError(
            'The Wilcoxon test needs SciPy: pip install ".[evaluate]", or leave out the second method.'
        ) from error
    if len(differences) < FEWEST or not np.any(differences):
        return float("nan")
    return float(wilcoxon(differences).pvalue)


def on_common_questions(groups: Sequence[Sequence[Retrieval]]) -> list[list[Retrieval]]:
    """Of several methods' retrievals those that every one of them made, in the order of the first."""
    row_of = [{row.question: row for row in group} for group in groups]
    common = [question for question in row_of[0] if all(question in rows for rows in row_of)] if row_of else []
    return [[rows[question] for question in common] for rows in row_of]
