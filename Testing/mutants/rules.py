"""What is mistaken for what, and what is left alone since it changes no behavior."""

import ast
import re

OPERATORS: dict[type, tuple[tuple[str, str], ...]] = {
    ast.Lt: (("<", "<="), ("<", ">=")),
    ast.LtE: (("<=", "<"), ("<=", ">")),
    ast.Gt: ((">", ">="), (">", "<=")),
    ast.GtE: ((">=", ">"), (">=", "<")),
    ast.Eq: (("==", "!="),),
    ast.NotEq: (("!=", "=="),),
    ast.Is: (("is", "is not"),),
    ast.IsNot: (("is not", "is"),),
    ast.In: (("in", "not in"),),
    ast.NotIn: (("not in", "in"),),
    ast.Add: (("+", "-"),),
    ast.Sub: (("-", "+"),),
    ast.Mult: (("*", "/"),),
    ast.Div: (("/", "*"),),
    ast.FloorDiv: (("//", "/"),),
    ast.Mod: (("%", "*"),),
    ast.Pow: (("**", "*"),),
    ast.BitAnd: (("&", "|"),),
    ast.BitOr: (("|", "&"),),
    ast.And: (("and", "or"),),
    ast.Or: (("or", "and"),),
}
"""What an operator is mistaken for."""

SWAPS = [
    ("min", "max"), ("minimum", "maximum"), ("any", "all"), ("floor", "ceil"), ("argmin", "argmax"), ("cos", "sin"),
    ("clamp_min", "clamp_max"), ("mean", "sum"), ("zeros", "ones"), ("append", "remove"), ("startswith", "endswith"),
]  # fmt: skip
NAMES = {name: other for pair in SWAPS for name, other in (pair, pair[::-1])}
"""Functions and methods that are mistaken for each other."""

SMALLEST = 1e-5
"""Smaller numbers only keep a division from failing: another one as small does as well."""

WORDING = {"report", "sub_progress", "info", "warning", "debug"}
"""Calls that say how far the work is: their share of a bar and their texts are not tested."""

LOOKS = {"SetTextScale", "SetGlyphScale", "SetFillOpacity"}
"""Calls whose numbers are a matter of taste."""

IMMATERIAL = {"strict", "repr", "indent"}
"""Arguments that do not change what comes out: checks of what holds anyway, and the look of a text."""

LEFT_ALONE = re.compile(r".*_PER_(BLOCK|CHUNK)|get_ready|_fast_length|.*color", re.IGNORECASE)
"""Constants and functions that change how fast an answer comes, and not the answer; and colors, a matter of taste."""
