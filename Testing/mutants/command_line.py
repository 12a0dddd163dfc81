"""Mutation testing (`make mutants`): how much of the code could be wrong without a test that notices.

Every mutant is a small, wrong change of one line. The tests that run the line are run; one that fails kills the mutant.
A mutant that survives is a line whose behavior no test asserts, and is printed as a difference. `README.md` says more.
"""

import argparse
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mutants.mutations import Mutant, mutants_of
from mutants.workshop import BrokenTests, WatchedTest, workshop

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path("APELocalizer/APELocalizerLib")

TARGETS = (
    "core/localization", "core/library", "core/embedding/search.py",
    "scene/results.py", "scene/result_rows.py", "scene/result_table.py", "scene/references.py",
)  # fmt: skip
"""Code whose errors would point at the wrong anatomy; files or folders of APELocalizerLib."""

SUITES = (
    "Testing/core/localization", "Testing/core/library", "Testing/core/embedding/test_search.py",
    "Testing/scene/test_result*.py",
)  # fmt: skip
"""Tests that are to notice."""

PARTS = ["APELocalizer", "Testing", "Resources", "pyproject.toml", "README.md"]
"""What the tests need of the repository."""

MODULES = [
    *("numpy", "scipy.ndimage", "scipy.spatial", "SimpleITK", "torch", "torch.nn.functional"),
    *("vtk", "slicer", "slicer.util", "pytest", "hypothesis", "jsonschema"),
]
"""What takes long to import."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try mutants; the exit code is 0 if enough of them were killed, 1 if not, 2 if the tests fail without any."""
    options = _options(arguments)
    sources = {path: (options.root / path).read_text(encoding="utf-8") for path in _files(options)}
    mutants = [mutant for path, source in sources.items() for mutant in mutants_of(path, source)]
    chosen = random.Random(options.seed).sample(mutants, min(options.mutants or len(mutants), len(mutants)))
    chosen.sort(key=lambda mutant: (mutant.path, mutant.line))
    print(f"{len(chosen)} of {len(mutants)} mutants (seed {options.seed})", flush=True)
    killed: dict[Path, int] = {}
    with workshop(options.root, options.parts, options.code, options.modules) as shop:
        try:
            suites = [str(path) for suite in options.suites for path in sorted(shop.root.glob(suite))]
            tests = shop.watch(list(sources), suites)
            texts = {file: (shop.root / file).read_text(encoding="utf-8") for file in {test.file for test in tests}}
            for mutant in chosen:
                tried = chosen_tests(mutant, tests, sources, texts)
                if tried and shop.kills(mutant, tried, options.seconds):
                    killed[mutant.path] = killed.get(mutant.path, 0) + 1
                else:
                    why = "" if tried else "   (no test runs it)"
                    print(f"\n{mutant.path}:{mutant.line}{why}\n- {mutant.was}\n+ {mutant.becomes}", flush=True)
        except BrokenTests as error:
            print(error, file=sys.stderr)
            return 2
    print("\n" + table(chosen, killed))
    return 0 if 100 * sum(killed.values()) >= options.least * len(chosen) else 1


def chosen_tests(
    mutant: Mutant, tests: list[WatchedTest], sources: dict[Path, str], texts: dict[str, str]
) -> list[WatchedTest]:
    """Tests that run what was changed, the fastest file first.

    Of a constant: those that run a line with its name, and those in files that name it; `texts` are the tests' files.
    """
    places, named = [(mutant.path, mutant.first, mutant.last)], re.compile(rf"\b{mutant.name or '(?!)'}\b")
    for path, source in sources.items():
        rows = enumerate(source.splitlines(), start=1)
        places += [(path, number, number) for number, row in rows if named.search(row)]
    naming = {file for file, text in texts.items() if named.search(text)}
    chosen = [test for test in tests if test.file in naming or any(test.runs(*place) for place in places)]
    seconds: dict[str, float] = {}
    for test in chosen:
        seconds[test.file] = seconds.get(test.file, 0.0) + test.seconds
    return sorted(chosen, key=lambda test: (seconds[test.file], test.file, test.seconds))


def table(mutants: list[Mutant], killed: dict[Path, int]) -> str:
    """Killed and surviving mutants of every file, and of all."""
    rows = []
    for path in dict.fromkeys(mutant.path for mutant in mutants):
        rows.append((path.as_posix(), killed.get(path, 0), sum(mutant.path == path for mutant in mutants)))
    rows.append(("all", sum(killed.values()), len(mutants)))
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{'file':{width}}  killed  survived   share"]
    for name, dead, count in rows:
        lines.append(f"{name:{width}}  {dead:6d}  {count - dead:8d}  {100 * dead / max(count, 1):4.0f} %")
    return "\n".join(lines)


def _files(options: argparse.Namespace) -> list[Path]:
    """Source files of the targets, relative to the repository."""
    files = []
    for target in options.targets:
        path = options.root / options.library / target
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [file.relative_to(options.root) for file in files]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("targets", nargs="*", default=TARGETS, help="files or folders of the library to change")
    parser.add_argument("--mutants", type=int, default=120, help="how many to try; 0 for all")
    parser.add_argument("--seed", type=int, default=1, help="another number draws other mutants")
    parser.add_argument("--least", type=float, default=85.0, help="percent that must be killed")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the processor, that a mutant may take longer")
    parser.add_argument("--suites", nargs="+", default=SUITES, help="test files or folders; * may stand for letters")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    parser.add_argument("--library", type=Path, default=LIBRARY, help="folder that the targets are relative to")
    parser.add_argument("--code", default="APELocalizer", help="folder that Python imports from")
    parser.add_argument("--modules", nargs="+", default=MODULES, help="what is imported once, for all mutants")
    parser.add_argument("--parts", nargs="+", default=PARTS, help="what is copied of the repository")
    return parser.parse_args(arguments)
