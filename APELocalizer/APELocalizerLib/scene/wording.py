"""Sentences of the panel about libraries and results: counts, names and what a run did. No Qt."""

from collections.abc import Sequence
from html import escape

from slicer.i18n import tr as _

from APELocalizerLib.core.library.spoken_names import spoken_names

NAMES_SHOWN = 12
"""Names that the summary of a library lists."""


def count_text(count: int, one: str, many: str) -> str:
    """Text for a count: `one` for exactly one, else `many`; both with "{count}"."""
    return (one if count == 1 else many).format(count=count)


def library_summary(library) -> str:
    """What a library (or None) holds, and its first names, as HTML."""
    if library is None or not library.names:
        return _("Empty. Learn landmarks from a support scan below, or open a library.")
    spoken = spoken_names(library.names)
    names = [spoken[name] for name in library.names[:NAMES_SHOWN]]
    if len(library.names) > NAMES_SHOWN:
        names.append("…")
    counts = (
        count_text(len(library.landmarks), _("{count} landmark"), _("{count} landmarks")),
        count_text(len(library.organs), _("{count} organ"), _("{count} organs")),
        count_text(len(library.supports), _("{count} support scan"), _("{count} support scans")),
    )
    return f"{' · '.join(counts)}<br>{escape(', '.join(names))}"


def learned_text(library, before, organs: bool) -> str:
    """What was added to the library `before` (or None): new names, or one more example for names it had."""
    known = before.names if before else ()
    new = [name for name in library.names if name not in known]
    if new:
        spoken = spoken_names(library.names)
        return _("Learned {names}.").format(names=", ".join(spoken[name] for name in new))
    if organs:
        return _("Added this scan as another example for the organs.")
    return _("Added this scan as another example for the landmarks.")


def warnings_text(warnings: Sequence[str]) -> str:
    """Warnings one below the other, none twice; empty if there are none."""
    return "\n".join(f"⚠ {warning}" for warning in dict.fromkeys(warnings))


def run_summary(localization, folder: str) -> str:
    """How many were found, and where the results are."""
    results = (*localization.points, *localization.organs)
    text = _("Found {count} of {all}. Results are in “{name}” (Data module).")
    count = sum(result.found for result in results)
    return text.format(count=count, all=len(results), name=folder)
