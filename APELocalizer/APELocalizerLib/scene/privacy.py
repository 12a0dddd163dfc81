"""What a saved scene or library shows of the support patients: a coarse copy (5 mm) of their CTs, unless left out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads SimpleITK, which opening the panel does not need
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.scene.choices import SupportCTs


def supports_with_ct(library: LandmarkLibrary | None) -> tuple[str, ...]:
    """Names of the support scans of which a library holds a coarse CT."""
    return tuple(support.name for support in library.supports if support.coarse_ct) if library else ()


def without_coarse_ct(library: LandmarkLibrary) -> LandmarkLibrary:
    """The library without coarse CTs: nobody can see the supports' anatomy in it, and positions are less accurate."""
    return replace(library, supports=tuple(replace(support, coarse_ct="") for support in library.supports))


def belongs_in_scene(choice: SupportCTs, is_in_file: bool) -> bool:
    """Whether a scene keeps the coarse CTs of the library in use; `is_in_file`: a library file has them already."""
    from APELocalizerLib.scene.choices import SupportCTs  # translates, which only the application can

    return choice is SupportCTs.ALWAYS or (choice is SupportCTs.UNLESS_IN_FILE and not is_in_file)
