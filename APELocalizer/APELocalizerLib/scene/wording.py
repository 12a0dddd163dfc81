"""Sentences of the panel about libraries and results: counts, names and what a run did. No Qt."""

from collections.abc import Sequence
from html import escape

from slicer.i18n import tr as _

from APELocalizerLib.core.library.spoken_names import spoken_names
from APELocalizerLib.scene.privacy import supports_with_ct
from APELocalizerLib.scene.result_rows import ResultRow

NAMES_SHOWN = 4
"""Names that the summary of a library lists: one or two lines, so that “Localize” is in view on a small screen."""


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


def library_tip(library) -> str:
    """All names of a library (or None), as said, or what the library is for."""
    names = spoken_names(library.names).values() if library is not None else ()
    return _("What “Localize” looks for: {names}").format(names=", ".join(names) or "–")


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


def privacy_text(library, is_kept: bool) -> str:
    """What a scene that is saved now shows of the support patients; empty if the library holds no CT of them."""
    names = supports_with_ct(library)
    if not names:
        return ""
    if is_kept:
        text = _("A scene saved now contains a coarse copy (5 mm) of the CT of: {names}.")
        return text.format(names=", ".join(names))
    return _("A scene saved now contains no copy of the support CTs. Keep the library file to use them again.")


def coarse_ct_question(library) -> str:
    """What to ask before a library is saved; empty if it holds no coarse CT."""
    names = supports_with_ct(library)
    if not names:
        return ""
    return _(
        "Save with a coarse copy (5 mm) of the support CTs ({names})?\n\n"
        "Yes: positions are more accurate, and everyone with the file can see the patients' anatomy.\n"
        "No: positions are less accurate, and the file holds no images."
    ).format(names=", ".join(names))


def restored_warnings(library) -> tuple[str, ...]:
    """What to say of a library that a scene held: whether its coarse CTs were left out."""
    if all(support.coarse_ct for support in library.supports):
        return ()
    return (_("The scene holds no CT of the supports: positions are less accurate until you open the library file."),)


def warnings_text(warnings: Sequence[str]) -> str:
    """Warnings one below the other, none twice; empty if there are none."""
    return "\n".join(f"⚠ {warning}" for warning in dict.fromkeys(warnings))


def status_text(row: ResultRow) -> str:
    """What the panel's table says of a result: how sure it is, or that it was not found."""
    if not row.found:
        return _("✗ not found")
    return {"sure": _("✓ sure"), "check": _("? check")}.get(row.grade, _("✓ found"))


def row_tip(row: ResultRow) -> str:
    """All that is known of a result, one line each: its whole name, how far off it may be, and remarks."""
    lines = [row.label]
    if row.found and row.expected_error:
        text = _("Expected error {error} mm; within {radius} mm in 9 of 10 such answers")
        lines.append(text.format(error=row.expected_error, radius=row.radius_90))
    if row.found and row.round_trip:
        lines.append(_("Round trip {distance} mm, a consistency check").format(distance=row.round_trip))
    return "\n".join([*lines, row.note] if row.note else lines)


def run_summary(localization, folder: str) -> str:
    """How many were found, how many of them to check where that is known, and where the results are."""
    results = (*localization.points, *localization.organs)
    count = sum(result.found for result in results)
    to_check = sum(result.found and result.grade == "check" for result in results)
    text = _("Found {count} of {all}. Results are in “{name}” (Data module).")
    if to_check:
        text = _("Found {count} of {all}, {to_check} to check. Results are in “{name}” (Data module).")
    return text.format(count=count, all=len(results), to_check=to_check, name=folder)
