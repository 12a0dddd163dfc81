"""Habits of the house: files and functions of a size to take in at a glance, one word per thing, telling names."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MOST_LINES, MOST_LINES_OF_FUNCTION = 250, 50

RETIRED = {
    r"checkpoint(?!_every)": "model",
    r"appearance": "coarse CT, or what the image looks like",
    r"licence": "license",
    r"neighbour|\bcentre|millimetre|\bmetres?\b|normalise|colour|grey": "US spelling",
    r"edge[ _]points?": "extreme points",
    r"(?<!average )\bwalls?\b(?! clock)": "sides of a box",
    r"way back|ways back": "round trip",
    r"label volume": "label map",
    r"set-up": "setup",
    r"HostEngine|DeviceEngine": "CpuPreparation, GpuPreparation",
    r"undamaged copy": "“The file is damaged. Open another copy.”",
    r"no sensible number": "non-finite or out of range",
    r"annotations enough|does not suffice": "enough annotations, not enough memory",
}
"""Words that this house no longer uses, each as a regular expression, and what it says instead."""

COMPATIBLE = (
    r"""["'](checkpoint_id|licence|edge_points_ras|alpha|checkpointId)["']""",
    r"APELocalizer checkpoint", r"APELocalizer\.CheckpointId", r'"box walls, mm"',
    r"\bcheckpoint=", r"\bcheckpoint\)", r"checkpoint: str =", r":param checkpoint",
    r'c\["[a-z]+"\].*(checkpoint_id|colour|edge_points_ras)',
)  # fmt: skip
"""Lines in files of earlier versions, and in what users have written against them, that keep their words."""

CATCH_ALLS = {"each", "found", "own", "these", "those"}
"""Variables that would not say what they hold."""


def sources(*suffixes: str) -> list[Path]:
    """Files that are written by hand, relative to the repository."""
    folders = ("APELocalizer", "Testing", "Resources", ".github")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    files += [path for path in ROOT.glob("*.*") if path.suffix in suffixes]
    return sorted(path.relative_to(ROOT) for path in files if "egg-info" not in str(path))


@pytest.mark.parametrize("path", sources(".py"), ids=str)
def test_files_and_functions_are_in_budget(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < MOST_LINES_OF_FUNCTION, node.name


@pytest.mark.parametrize("path", sources(".py", ".md", ".ui", ".sh"), ids=str)
def test_retired_words_stay_away(path):
    if path in (Path("Testing/test_house.py"), Path("Testing/test_documents.py"), Path("CHANGELOG.md")):
        pytest.skip("names the words themselves")
    for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), start=1):
        rest = re.sub("|".join(COMPATIBLE), "", line)
        for word, instead in RETIRED.items():
            assert not re.search(word, rest, re.IGNORECASE), f"line {number}: say {instead}"


@pytest.mark.parametrize("path", [path for path in sources(".py") if path.parts[0] == "APELocalizer"], ids=str)
def test_variables_say_what_they_hold(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    fields = {
        id(part.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.AnnAssign)
    }  # such as `found` of an answer
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    names = {node.id for node in stored if id(node) not in fields}
    names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assert not names & CATCH_ALLS
