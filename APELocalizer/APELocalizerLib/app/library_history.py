"""The library in use and those before it, for undo."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads SimpleITK, which opening the panel does not need
    from APELocalizerLib.core.library.library import LandmarkLibrary

HISTORY_KEPT = 50
"""Changes that can be undone."""


class LibraryHistory:
    """The library in use (None: empty) and the ones it replaced."""

    def __init__(self) -> None:
        self.current: LandmarkLibrary | None = None
        self._before: list[LandmarkLibrary | None] = []
        self._files: list[tuple[LandmarkLibrary, str]] = []

    @property
    def can_undo(self) -> bool:
        """Whether the library was changed."""
        return bool(self._before)

    @property
    def file_name(self) -> str:
        """Name of the file that holds the library in use as it is now; empty if none does."""
        return next((name for library, name in reversed(self._files) if library is self.current), "")

    def is_in_file(self, name: str) -> None:
        """The library in use was opened from, or saved to, the file of this name."""
        if self.current is not None:
            self._files = [*self._files, (self.current, name)][-HISTORY_KEPT:]

    def replace(self, library: "LandmarkLibrary | None") -> None:
        """Use another library and keep the former for undo."""
        self._before = [*self._before, self.current][-HISTORY_KEPT:]
        self.current = library

    def adopt(self, library: "LandmarkLibrary") -> bool:
        """Use the library that the scene holds; whether it differs from the one in use, which undo restores."""
        if library == self.current:
            return False
        if self.current is not None:
            self._before.append(self.current)
        self.current = library
        return True

    def undo(self) -> bool:
        """Go back to the library before the last change; False if there is none."""
        if not self._before:
            return False
        self.current = self._before.pop()
        return True
