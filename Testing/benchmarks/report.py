"""The report: the table in Markdown and CSV, the machine, and for missed goals what the time goes into."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.table import Row, as_csv, markdown
from benchmarks.timing import ROOT

FOLDER = ROOT / "Resources" / "Benchmarks"

READING = (
    "“Ratio” says how many times better ours is than the reference (faster, smaller, or of a speed: higher; below 1 it "
    "is worse). Times are medians; reference and ours ran in turn in the same process, after a warm-up, except: first "
    "localizations and runs with another library are not warmed up, each first run is a process of its own, and costs "
    "per landmark are timed one number of landmarks after the other. Rows without a target stand beside for comparison."
)


def summary(rows: Iterable[Row]) -> str:
    """How many goals are met, in a sentence."""
    verdicts = [row.verdict for row in rows if row.goal is not None]
    counts = {verdict: verdicts.count(verdict) for verdict in ("yes", "no", "not measured")}
    met = f"Of {len(verdicts)} targets {counts['yes']} are met"
    return f"{met}, {counts['no']} are missed, and {counts['not measured']} were not measured."


def report(rows: Sequence[Row], machine: Sequence[str], remarks: Sequence[str], profiles: dict[str, str]) -> str:
    """The whole report as Markdown; `profiles` by the goals' rows."""
    parts = ["# Benchmark", "", "Written by `make bench`.", "", *(f"- {line}" for line in machine), ""]
    parts += [*remarks, "", READING, "", summary(rows), "", markdown(rows)]
    if any(row.number == "8" and row.met is not None for row in rows):
        parts += ["![Cost by length of the scan and by number of landmarks](growth.png)", ""]
    if profiles:
        parts += ["## Where the time goes in what misses its target", ""]
        for what, text in profiles.items():
            parts += [f"**{what}**", "", "```", text, "```", ""]
    return "\n".join(parts)


def write(folder: Path, text: str, rows: Sequence[Row]) -> None:
    """Write report.md and report.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(text, encoding="utf-8")
    (folder / "report.csv").write_text(as_csv(rows), encoding="utf-8")
