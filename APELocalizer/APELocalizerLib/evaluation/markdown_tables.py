"""How figures and tables are written in Markdown."""

from collections.abc import Sequence

import numpy as np

from APELocalizerLib.evaluation.metrics import Summary


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; bars in names are told from those between the columns."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    lines = [cells[0], ["---"] * len(header), *cells[1:]]
    return ["| " + " | ".join(line) + " |" for line in lines]


def figure(summary: Summary, digits: int = 1) -> str:
    """Mean ± standard deviation (median), or a dash for nothing."""
    if not summary.count:
        return "–"
    return f"{summary.mean:.{digits}f} ± {summary.std:.{digits}f} ({summary.median:.{digits}f})"


def number(value: float, digits: int) -> str:
    """The number, or a dash for NaN."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"
