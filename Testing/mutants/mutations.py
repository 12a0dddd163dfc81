"""Mutants of a source file: one small, wrong change each, such as `<` for `<=`, that a good test would notice."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mutants.rules import IMMATERIAL, LEFT_ALONE, LOOKS, NAMES, OPERATORS, SMALLEST, WORDING

Lines = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """A source file with one change; `path` is relative to the repository.

    `line` is the line that was changed, which read `was` and reads `becomes`; `source` is the whole text. A test can
    only notice if it runs one of the lines `first` … `last`, or for a constant (`name`) a line with that name.
    """

    path: Path
    line: int
    was: str
    becomes: str
    source: str
    first: int
    last: int
    name: str = ""


def mutants_of(path: Path, source: str) -> list[Mutant]:
    """All mutants of a source file, from its first line to its last."""
    text = source.encode()
    starts = [0]
    for row in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    mutants = []
    for (row, column), (end_row, end_column), becomes, (first, last), name in _Changes(source).all():
        begin, end = starts[row - 1] + column, starts[end_row - 1] + end_column
        changed = (text[:begin] + becomes.encode() + text[end:]).decode()
        rows = zip(source.splitlines(), changed.splitlines(), strict=False)
        line, (old, new) = next((n, pair) for n, pair in enumerate(rows, start=1) if pair[0] != pair[1])
        mutants.append(Mutant(path, line, old.strip(), new.strip(), changed, first, last, name))
    return mutants


class _Changes:
    """Finds what can be changed in a source: start, end (row, byte), new text, lines that must run, constant's name."""

    def __init__(self, source: str) -> None:
        self._tree, self._source = ast.parse(source), source.encode().splitlines(keepends=True)
        self._lines: Lines = (1, len(self._source))
        self._name = ""

    def all(self) -> Iterator[tuple]:
        """All changes."""
        for statement in self._tree.body:
            yield from self._statement(statement, False)

    def _statement(self, node: ast.stmt, in_function: bool) -> Iterator[tuple]:
        """Changes of a statement and of those within; `in_function`: its own lines must run for a test to notice."""
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass, ast.Global, ast.Nonlocal)):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        before = self._lines, self._name
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not LEFT_ALONE.fullmatch(node.name):
                yield from self._function(node)
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                yield from self._statement(part, False)
        else:
            if in_function:
                self._lines = node.lineno, _header_end(node)
            else:
                self._name = _constant(node)
            if not LEFT_ALONE.fullmatch(self._name):
                yield from self._whole(node)
                yield from self._parts(node, in_function)
        self._lines, self._name = before

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple]:
        self._lines = node.body[0].lineno, node.end_lineno
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            yield from self._expression(default)
        for part in node.body:
            yield from self._statement(part, True)

    def _whole(self, node: ast.stmt) -> Iterator[tuple]:
        """Changes of a statement as a whole."""
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and _can_be_left_out(node.value)):
            yield self._change(node, "pass")
        elif isinstance(node, (ast.Break, ast.Continue)):
            yield self._change(node, "continue" if isinstance(node, ast.Break) else "break")
        elif isinstance(node, ast.Return) and not (node.value is None or _is_constant(node.value, None)):
            yield self._change(node.value, "None")
        elif isinstance(node, ast.AugAssign):
            yield from self._operator(node.target, node.op, node.value)

    def _parts(self, node: ast.stmt, in_function: bool) -> Iterator[tuple]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                yield from self._statement(child, in_function)
            elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
                for part in child.body:
                    yield from self._statement(part, in_function)
            elif isinstance(child, ast.withitem):
                yield from self._expression(child.context_expr)
            elif isinstance(child, ast.expr) and not isinstance(node, ast.Raise):
                if not (isinstance(node, ast.AnnAssign) and child is node.annotation):
                    yield from self._expression(child)
        if isinstance(node, (ast.If, ast.While)):
            yield from self._negated(node.test)

    def _expression(self, node: ast.AST) -> Iterator[tuple]:
        """Changes of an expression and of those within; texts are wording, and no behavior."""
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg in IMMATERIAL):
            return
        if isinstance(node, ast.Call) and _called(node) in WORDING | LOOKS:
            return
        yield from _KINDS.get(type(node), lambda *_: ())(self, node)
        for child in ast.iter_child_nodes(node):
            yield from self._expression(child)

    def _comparison(self, node: ast.Compare) -> Iterator[tuple]:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            yield from self._operator(left, operator, right)

    def _arithmetic(self, node: ast.BinOp) -> Iterator[tuple]:
        yield from self._operator(node.left, node.op, node.right)

    def _logic(self, node: ast.BoolOp) -> Iterator[tuple]:
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from self._operator(left, node.op, right)

    def _sign(self, node: ast.UnaryOp) -> Iterator[tuple]:
        yield self._change(node, f"({self._text(node.operand)})")

    def _choice(self, node: ast.IfExp) -> Iterator[tuple]:
        yield from self._negated(node.test)

    def _filter(self, node: ast.comprehension) -> Iterator[tuple]:
        for test in node.ifs:
            yield from self._negated(test)

    def _call(self, node: ast.Call) -> Iterator[tuple]:
        if (name := _called(node)) in NAMES:
            end = node.func.end_lineno, node.func.end_col_offset
            yield (end[0], end[1] - len(name)), end, NAMES[name], self._lines, self._name

    def _slice(self, node: ast.Slice) -> Iterator[tuple]:
        for bound in (node.lower, node.upper):
            if bound is not None and not isinstance(bound, (ast.Constant, ast.UnaryOp)):
                yield self._change(bound, f"{self._text(bound)} + 1")

    def _number(self, node: ast.Constant) -> Iterator[tuple]:
        if isinstance(node.value, bool):
            yield self._change(node, str(not node.value))
        elif isinstance(node.value, (int, float)) and (node.value == 0 or abs(node.value) >= SMALLEST):
            small = isinstance(node.value, int) and node.value < 10
            yield self._change(node, repr(node.value + 1 if small else node.value * 2 or 1.0))

    def _negated(self, test: ast.expr) -> Iterator[tuple]:
        if not isinstance(test, ast.UnaryOp) and not (isinstance(test, ast.Compare) and len(test.ops) == 1):
            yield self._change(test, f"(not ({self._text(test)}))")  # the others are negated by their operator

    def _operator(self, left: ast.expr, operator: ast.AST, right: ast.expr) -> Iterator[tuple]:
        start, end = (left.end_lineno, left.end_col_offset), (right.lineno, right.col_offset)
        between = self._between(start, end)
        for old, new in OPERATORS.get(type(operator), ()):
            word = rf"\b{old}\b" if old.isalpha() or " " in old else re.escape(old)
            yield start, end, re.sub(word, new, between, count=1), self._lines, self._name

    def _change(self, node: ast.AST, becomes: str) -> tuple:
        start, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
        return start, end, becomes, self._lines, self._name

    def _text(self, node: ast.AST) -> str:
        return self._between((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))

    def _between(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        rows = self._source[start[0] - 1 : end[0]]
        rows[-1] = rows[-1][: end[1]]
        rows[0] = rows[0][start[1] :]
        return b"".join(rows).decode()


_KINDS = {
    ast.Compare: _Changes._comparison,
    ast.BinOp: _Changes._arithmetic,
    ast.BoolOp: _Changes._logic,
    ast.UnaryOp: _Changes._sign,
    ast.Constant: _Changes._number,
    ast.IfExp: _Changes._choice,
    ast.comprehension: _Changes._filter,
    ast.Call: _Changes._call,
    ast.Slice: _Changes._slice,
}
"""What is changed in which kind of expression."""


def _header_end(node: ast.stmt) -> int:
    """Last line of a statement, without the statements within."""
    body = getattr(node, "body", None)
    return max(node.lineno, body[0].lineno - 1) if body else node.end_lineno


def _constant(node: ast.stmt) -> str:
    """Name of the constant that a statement sets."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return targets[0].id if isinstance(targets[0], ast.Name) else ""


def _can_be_left_out(node: ast.expr) -> bool:
    return isinstance(node, (ast.Call, ast.Await)) and _called(node) not in WORDING | LOOKS


def _called(node: ast.expr) -> str:
    function = getattr(node, "func", None)
    return getattr(function, "attr", getattr(function, "id", ""))


def _is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
