"""JSON and packed bytes from files that may be damaged or made to do harm: bounded in depth, and in size before memory
is asked for.
"""

import base64
import json
import math
import zlib
from collections.abc import Callable
from typing import Any

LONGEST_HEADER = 1 << 20
"""Bytes of the header that precedes packed data."""

MOST_DIGITS = 19
"""Of a whole number."""

MOST_BYTES = 1 << 29
"""Bytes that packed data may have when they are unpacked: far more than any map has."""


def load_json(text: str | bytes) -> Any:
    """Content of a JSON text. Raises ValueError for anything that is none, that is nested too deeply, and for numbers
    that are none or that no computer counts with."""
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_float, parse_int=_int)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def unpack(text: str, most: Callable[[Any], int]) -> tuple[Any, bytes]:
    """(header, data) of a base64 text that packs a line of JSON and, behind it, at most `most(header)` bytes.

    Nothing beyond that is unpacked. Raises ValueError if the text is damaged or holds more.
    """
    stream = zlib.decompressobj()
    packed = base64.b64decode(text, validate=True)
    try:
        head, newline, data = stream.decompress(packed, LONGEST_HEADER).partition(b"\n")
        header = load_json(head)
        size = most(header)
        if not newline or not 0 <= size <= MOST_BYTES:
            raise ValueError("it claims an impossible size")
        if len(data) <= size:
            data += stream.decompress(stream.unconsumed_tail, size + 1 - len(data))
    except zlib.error as error:
        raise ValueError("it cannot be unpacked") from error
    if len(data) > size or not stream.eof:
        raise ValueError("it holds more or less than its header says")
    return header, data


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds the impossible number {text[:20]}")
    return number


def _int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"it holds the impossible number {text[:20]}…")
    return int(text)


def _no_number(name: str) -> float:
    raise ValueError(f"it holds {name} where a number is needed")
