"""Mutation testing finds what no test asserts, in a made-up project; and changes what matters only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mutants.command_line import ROOT, TARGETS, chosen_tests, table
from mutants.mutations import Mutant, mutants_of
from mutants.workshop import WatchedTest


def changes(source: str) -> set[str]:
    """What the changed line of every mutant reads."""
    mutants = mutants_of(Path("code.py"), source)
    for mutant in mutants:
        ast.parse(mutant.source)
    return {mutant.becomes for mutant in mutants}


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("x = a < b", {"x = a <= b", "x = a >= b"}),
        ("x = a and not b", {"x = a or not b", "x = a and (b)"}),
        ("x = (a + b) * 3", {"x = (a - b) * 3", "x = (a + b) / 3", "x = (a + b) * 4"}),
        ("x = a[1:n]", {"x = a[2:n]", "x = a[1:n + 1]"}),
        ("x = min(a, 0.5)", {"x = max(a, 0.5)", "x = min(a, 1.0)"}),
        ("x = b if a and c else d", {"x = b if a or c else d", "x = b if (not (a and c)) else d"}),
        ("x -= a", {"x += a"}),
        ("check(a)", {"pass"}),
        ("raise ValueError(1 + 2)", {"pass"}),
        ("x = True", {"x = False"}),
    ],
)
def test_each_kind_of_change(line, becomes):
    assert changes(f"def f(a, b, c, d, n, x):\n    {line}\n") == becomes


def test_a_result_that_is_lost():
    assert changes("def f(a):\n    return a\n") == {"return None"}


def test_letters_beyond_ascii_do_not_shift_a_change():
    assert changes('def f(a):\n    return "µ" + "é", a > 2\n') >= {
        'return "µ" + "é", a >= 2',
        'return "µ" - "é", a > 2',
    }


@pytest.mark.parametrize(
    "source",
    [
        '"""Text with 1 < 2."""\n',
        "def f(a: dict[int, 3]) -> list[1]:\n    '''One < two.'''\n",
        "CELLS_PER_BLOCK = 3\n",
        "if TYPE_CHECKING:\n    x = 1\n",
        'def f(a):\n    report(a, 0.5, "half")\n',
        "def f(a):\n    b = a, 1e-9, 'text', f'{a:.1f}'\n",
        "@dataclass(frozen=True)\nclass A:\n    x: int\n",
    ],
)
def test_what_changes_no_behavior_is_left_alone(source):
    assert changes(source) == set()


def test_a_mutant_is_tried_with_the_tests_that_run_its_line():
    path = Path("code.py")
    fast, slow, other = (
        WatchedTest(f"{name}.py::test", seconds, {path: frozenset(lines)})
        for name, seconds, lines in (("fast", 1.0, {4}), ("slow", 9.0, {3, 4}), ("other", 0.1, {8}))
    )
    tests = [slow, other, fast]
    source = "LIMIT = 2\n\ndef f(a):\n    return a < LIMIT\n"
    by_change = {mutant.becomes: mutant for mutant in mutants_of(path, source)}
    inside, of_constant = by_change["return None"], by_change["LIMIT = 3"]
    assert chosen_tests(inside, tests, {path: source}, {"other.py": "LIMIT"}) == [fast, slow]
    assert chosen_tests(of_constant, [fast, other], {path: source}, {}) == [fast], "its own line runs at import"
    assert other in chosen_tests(of_constant, tests, {path: source}, {"other.py": "from code import LIMIT"})


def test_the_table_counts_by_file_and_in_all():
    mutants = [Mutant(Path(name), 1, "", "", "", 1, 1) for name in ("a.py", "a.py", "b.py")]
    rows = [row.split() for row in table(mutants, {Path("a.py"): 1}).splitlines()[1:]]
    assert rows == [["a.py", "1", "1", "50", "%"], ["b.py", "0", "1", "0", "%"], ["all", "1", "2", "33", "%"]]


def test_every_target_exists():
    assert all((ROOT / "APELocalizer" / "APELocalizerLib" / target).exists() for target in TARGETS)


@pytest.fixture
def project(tmp_path):
    """A function with three branches, of which the tests assert two; one of its mutants never ends."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "signs.py").write_text(
        "def sign(x):\n    if x > 0:\n        return 1\n    while x < -1:\n        x += 1\n    return x\n"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_signs.py").write_text(
        "import sys\nfrom signs import sign\n\n"
        "def test_one():\n    assert sign(5) == 1\n\n"
        "def test_slow():\n    assert sign(-4) == -1\n"
    )
    return tmp_path


def tried(project: Path, *options: str) -> subprocess.CompletedProcess:
    places = ["--root", project, "--library", "code", "--code", "code", "--parts", "code", "tests"]
    limits = ["--suites", "tests", "--modules", "pytest", "hypothesis", "--mutants", "0"]
    command = [sys.executable, ROOT / "Testing" / "mutants", "signs.py", *places, *limits, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_survivors_are_told_and_the_project_stays_as_it_was(project):
    """Nothing asserts what happens to 0 and to 1: everything else is noticed."""
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    run = tried(project, "--least", "50", "--seconds", "1")
    survivors = {line for line in run.stdout.splitlines() if line.startswith("+ ")}
    assert survivors == {"+ if x >= 0:", "+ if x > 1:"}, run.stdout + run.stderr
    assert run.returncode == 0
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    assert tried(project, "--least", "101", "--mutants", "1").returncode == 1, "too few are killed"


def test_tests_that_fail_anyway_are_said_and_prove_nothing(project):
    (project / "tests" / "test_signs.py").write_text("def test_one():\n    assert False\n")
    run = tried(project)
    assert run.returncode == 2 and "Mend them first" in run.stderr
