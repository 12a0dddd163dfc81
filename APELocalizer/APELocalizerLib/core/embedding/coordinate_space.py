"""CoordinateSpace: what the three numbers of an embedding mean, so that only comparable ones are compared."""

from collections.abc import Iterable
from dataclasses import dataclass

UNKNOWN_REFERENCE = "unknown"
"""Stands for the digest of the reference in files written before they named it: "aligned" was all they said."""


@dataclass(frozen=True)
class CoordinateSpace:
    """The model that computed embeddings, and the digest of the reference they are aligned with (None: not aligned).

    Embeddings that are not aligned are compared with any of the same model: a reference moves coordinates to where the
    model should have put them, within a few centimeters. Two references may move them to different places, so
    embeddings that are aligned with one are never compared with those aligned with another.
    """

    model_id: str
    aligned_with: str | None = None

    @property
    def aligned(self) -> bool:
        """Whether the coordinates are aligned with a reference."""
        return self.aligned_with is not None

    def fits(self, other: "CoordinateSpace") -> bool:
        """Whether embeddings of both can be compared. An unknown reference fits any, as it always did."""
        known = {self.aligned_with, other.aligned_with} - {None, UNKNOWN_REFERENCE}
        return self.model_id == other.model_id and len(known) < 2

    @classmethod
    def shared(cls, spaces: "Iterable[CoordinateSpace]") -> "CoordinateSpace | None":
        """One space for embeddings that are kept together: that of the aligned ones, if there are any; None for none.

        Raises `ValueError` if two of them do not fit.
        """
        shared = None
        for space in spaces:
            if shared is not None and not shared.fits(space):
                raise ValueError(f"{shared.in_words()} and {space.in_words()}")
            if shared is None or shared.aligned_with in (None, UNKNOWN_REFERENCE) and space.aligned:
                shared = space
        return shared

    def in_words(self) -> str:
        """What the coordinates are aligned with, for a sentence."""
        if not self.aligned:
            return "not aligned"
        if self.aligned_with == UNKNOWN_REFERENCE:
            return "aligned with an unknown reference library"
        return f"aligned with the reference library {self.aligned_with}"
