"""What the panel's combo boxes offer. Parameter nodes store the names; `label` is what the user reads."""

import enum

from slicer.i18n import tr as _


class Spacing(enum.Enum):
    """Spacing presets of a model."""

    FAST = "fast"
    STANDARD = "standard"
    FINE = "fine"

    def label(self) -> str:
        return {
            Spacing.FAST: _("Fast (coarse)"),
            Spacing.STANDARD: _("Standard"),
            Spacing.FINE: _("Fine (slow)"),
        }[self]


class Overlay(enum.Enum):
    """What is drawn over the scan."""

    NONE = "none"
    RGB = "rgb"
    RIGHT = 0
    ANTERIOR = 1
    SUPERIOR = 2
    SIMILARITY = "similarity"

    def label(self) -> str:
        return {
            Overlay.NONE: _("Nothing"),
            Overlay.RGB: _("Anatomical position in three colors"),
            Overlay.RIGHT: _("Position from left to right"),
            Overlay.ANTERIOR: _("Position from back to front"),
            Overlay.SUPERIOR: _("Position from feet to head"),
            Overlay.SIMILARITY: _("Similarity to the selected landmark"),
        }[self]


class SupportCTs(enum.Enum):
    """Whether scenes keep the library's coarse copies of the support CTs."""

    UNLESS_IN_FILE = "unless_in_file"
    ALWAYS = "always"
    NEVER = "never"

    def label(self) -> str:
        return {
            SupportCTs.UNLESS_IN_FILE: _("While the library is in no file"),
            SupportCTs.ALWAYS: _("Always"),
            SupportCTs.NEVER: _("Never"),
        }[self]
