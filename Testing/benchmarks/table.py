"""What the benchmark reports: goals, rows, and their Markdown and CSV."""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.timing import Times

Kind = Literal["faster", "at_most", "at_least", "within", "share"]

COLUMNS = ("goal", "what", "target", "reference", "reference value", "ours", "ratio", "met", "remark")


@dataclass(frozen=True)
class Goal:
    """A bound to meet.

    "faster": the reference takes at least `limit` times as long. "at_most", "at_least": bounds on our value itself, in
    `unit`. "within": at most `limit` times the reference. "share": at least `limit` (a fraction) of the reference.
    """

    kind: Kind
    limit: float
    unit: str = ""

    @property
    def text(self) -> str:
        """The goal as the table shows it."""
        value = quantity(self.limit, self.unit)
        return {
            "faster": f"≥ {self.limit:g} times faster",
            "at_most": f"≤ {value}",
            "at_least": f"≥ {value}",
            "within": f"≤ {self.limit:g} × the reference",
            "share": f"≥ {100 * self.limit:g} % of the reference",
        }[self.kind]

    def met_by(self, ours: float, reference: float | None) -> bool | None:
        """Whether the values meet the goal; None where it needs a reference and there is none."""
        if self.kind == "at_most":
            return ours <= self.limit
        if self.kind == "at_least":
            return ours >= self.limit
        if reference is None:
            return None
        if self.kind == "faster":
            return reference >= self.limit * ours
        return ours <= self.limit * reference if self.kind == "within" else ours >= self.limit * reference


@dataclass(frozen=True)
class Row:
    """One comparison.

    `number` is that of the goal, "" for what only stands beside. `reference` says what `reference_value` is; both
    values are in `unit`, and of numbers of which more is better `more_is_better` is true. `ours` is None where nothing
    was measured, and `remark` then says why. `goal` None: nothing to meet. `profile` tells, when asked, what the time
    goes into; it is asked only where the goal is missed.
    """

    number: str
    what: str
    goal: Goal | None = None
    reference: str = ""
    reference_value: float | None = None
    ours: float | None = None
    unit: str = "s"
    more_is_better: bool = False
    remark: str = ""
    profile: Callable[[], str] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_times(
        cls, number: str, what: str, goal: Goal | None, reference: str, times: dict[str, Times], **more
    ) -> "Row":
        """Row of the medians of "reference" and "ours" in `times`; says in the remark how often ours was measured."""
        ours = times["ours"]
        remark = "; ".join(filter(None, [more.pop("remark", ""), f"ours {ours.spread}"]))
        values = {"reference_value": times["reference"].median, "ours": ours.median}
        return cls(number, what, goal, reference, **values, remark=remark, **more)

    def __post_init__(self) -> None:
        if self.ours is None and not self.remark:
            raise ValueError(f"The row “{self.what}” was not measured and does not say why.")

    @property
    def ratio(self) -> float | None:
        """How many times better than the reference; None without one."""
        if self.ours is None or self.reference_value is None:
            return None
        better, worse = (self.ours, self.reference_value) if self.more_is_better else (self.reference_value, self.ours)
        return better / worse if worse else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none or nothing was measured."""
        if self.goal is None or self.ours is None:
            return None
        return self.goal.met_by(self.ours, self.reference_value)

    @property
    def verdict(self) -> str:
        """ "yes", "no", "not measured", or empty where there is no goal."""
        if self.ours is None:
            return "not measured"
        return {True: "yes", False: "no", None: ""}[self.met]

    def cells(self) -> list[str]:
        """Texts in the order of `COLUMNS`."""
        value = quantity(self.reference_value, self.unit) if self.reference_value is not None else ""
        ours = quantity(self.ours, self.unit) if self.ours is not None else ""
        ratio = f"{self.ratio:.2g}" if self.ratio is not None and self.ratio < 10 else ""
        ratio = ratio or (f"{self.ratio:.0f}" if self.ratio is not None else "")
        target = self.goal.text if self.goal else ""
        return [self.number, self.what, target, self.reference, value, ours, ratio, self.verdict, self.remark]


def not_measured(number: str, titles: Iterable[tuple[str, Goal | None]], why: str) -> list[Row]:
    """Rows that say why they are empty."""
    return [Row(number, what, goal, remark=why) for what, goal in titles]


def quantity(value: float, unit: str) -> str:
    """A value with three significant digits and its unit; seconds below 0.1 in milliseconds."""
    if unit == "s" and abs(value) < 0.1:
        value, unit = 1000 * value, "ms"
    if abs(value) >= 100:
        text = f"{value:.0f}"
    elif value == 0 or abs(value) >= 1e-3:
        text = f"{value:.3g}"
    else:
        text = f"{value:.1e}"
    return f"{text} {unit}".strip()


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def as_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV, numbers unrounded and in one unit per row."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*COLUMNS[:4], "unit", *COLUMNS[4:]])
    for row in rows:
        number, what, target, reference, *_ = row.cells()
        values = (_plain(value) for value in (row.reference_value, row.ours, row.ratio))
        writer.writerow([number, what, target, reference, row.unit, *values, row.verdict, row.remark])
    return file.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
