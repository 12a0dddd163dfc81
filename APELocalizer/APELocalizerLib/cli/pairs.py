"""What the commands share that relate two scans to each other."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.cli.console import Console
from APELocalizerLib.cli.options import engine_of
from APELocalizerLib.core.base.errors import ResultsError
from APELocalizerLib.core.base.files import check_writable

if TYPE_CHECKING:
    from APELocalizerLib.core.localization.correspondence import Correspondence
    from APELocalizerLib.core.scan.scan import Scan


def check_new(paths: Iterable[Path]) -> None:
    """Raise `ResultsError` for a file that exists or cannot be written, before anything slow is done."""
    for path in paths:
        if path.exists():
            raise ResultsError(f"{path} exists already. Give another name, or delete it first.")
        check_writable(path)


def check_ending(arguments: argparse.Namespace, path: Path, option: str, endings: tuple[str, ...]) -> None:
    """Wrong usage, unless the file's name ends with one of these."""
    if not path.name.lower().endswith(endings):
        arguments.parser.error(f"{option} must end in {', '.join(endings[:-1])} or {endings[-1]}")


def read_pair(first: Path, second: Path, console: Console) -> "tuple[Scan, Scan]":
    """Both scans. Raises `ScanError`, and `CorrespondenceError` for twice the same one."""
    from APELocalizerLib.core.localization.correspondence import given_twice
    from APELocalizerLib.core.scan.read import read_scan

    if first.exists() and second.exists() and first.samefile(second):
        raise given_twice(first.name)
    scans = read_scan(first), read_scan(second)
    for scan in scans:
        for warning in scan.warnings:
            console.warning(warning)
    if scans[0].fingerprint == scans[1].fingerprint:
        raise given_twice(scans[0].name)
    return scans


def correspondence_of(arguments: argparse.Namespace, pair: "tuple[Scan, Scan]", console: Console) -> "Correspondence":
    """The correspondence of a pair by the engine that the options name. Raises what `Engine.correspond` does."""
    engine = engine_of(arguments)
    engine.check()
    correspondence = engine.correspond(*pair, arguments.spacing, console.progress, console.cancelled)
    for one_map in (correspondence.first, correspondence.second):
        for note in one_map.notes:
            console.warning(f"{one_map.scan_name}: {note}")
    return correspondence
