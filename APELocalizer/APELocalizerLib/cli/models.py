"""`ape-localizer models`: list the known models; fetch or remove one on request."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.cli.console import Console, table

if TYPE_CHECKING:
    from APELocalizerLib.core.model.registry import RegistryEntry


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser(
        "models",
        help="list the known models; fetch or remove one",
        description="List the models that --model accepts, besides files of your own. Nothing is downloaded "
        "unless --fetch asks for it.",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--fetch", metavar="ID", help="download this model into the user's cache")
    action.add_argument("--remove", metavar="ID", help="delete this model's downloaded file")
    parser.add_argument("--file", type=Path, help="with --fetch: take this downloaded file, without a network")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """List, fetch or remove."""
    if arguments.file and not arguments.fetch:
        arguments.parser.error("--file belongs to --fetch")

    from APELocalizerLib.core.model import registry

    if arguments.fetch:
        path = registry.fetch(arguments.fetch, console.progress, console.cancelled, arguments.file)
        console.result(str(path))
    elif arguments.remove:
        registry.remove(arguments.remove)
    else:
        console.result(listing(registry.registry()))
    return 0


def listing(entries: "tuple[RegistryEntry, ...]") -> str:
    """Return the list of models as text: a table, then what each was trained on and how to cite it."""
    from APELocalizerLib.core.model.registry import find_file

    rows, details = [], []
    for entry in entries:
        path = find_file(entry.id)
        size = path.stat().st_size if path else entry.size_bytes
        missing = "not downloaded" if entry.url else "missing"
        rows.append([entry.id, "ready" if path else missing, f"{size / 1e6:.1f}" if size else "", entry.title])
        details.append(f"{entry.id}\n  license: {entry.license}\n  trained on: {entry.training_data or 'not stated'}")
        details[-1] += f"\n  cite: {entry.citation}\n  file: {path or entry.url or entry.file_name}"
    return "\n\n".join([table(rows, ["id", "status", "MB", "title"]), *details])
