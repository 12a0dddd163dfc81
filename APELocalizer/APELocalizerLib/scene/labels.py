"""Names placed on a picture so that none lies over another. Positions are pixels from the lower left."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

WIDTH_PER_LETTER = 0.56
"""Mean width of a letter of the default font, in font sizes."""
MARGIN = 26.0
"""Free border at the left and right, where the orientation letters stand."""


@dataclass(frozen=True)
class Label:
    """Text at a position; `inside` marks the corner of a box rather than a point."""

    text: str
    position: tuple[float, float]
    size: int
    color: tuple[float, float, float] = (1.0, 0.9, 0.45)
    inside: bool = False

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        x, y = self.position
        return x, y, x + WIDTH_PER_LETTER * self.size * len(self.text), y + self.size * 1.2


def place_labels(anchors: Sequence[Label], picture: tuple[int, int]) -> list[Label]:
    """Move each label off its anchor to the first free place around it, within the picture (width, height).

    Labels of anchors outside the picture are left out; where nothing is free, the least crowded place is taken.
    """
    inside = [a for a in anchors if a.inside or (0 <= a.position[0] < picture[0] and 0 <= a.position[1] < picture[1])]
    taken = [(a.position[0] - 4, a.position[1] - 4, a.position[0] + 4, a.position[1] + 4) for a in inside]
    placed: list[Label] = []
    for anchor in inside:
        options = [_kept_inside(option, picture) for option in _options(anchor)]
        best = min(options, key=lambda option: sum(_overlap(option.extent, other) for other in taken))
        taken.append(best.extent)
        placed.append(best)
    return placed


def _options(anchor: Label) -> list[Label]:
    x, y = anchor.position
    left, bottom, right, top = anchor.extent
    width, height = right - left, top - bottom
    if anchor.inside:
        places = [(x + 5, y - height * (1 + row)) for row in range(3)]
    else:
        places = [(x + 7, y - height / 2), (x - 7 - width, y - height / 2)]
        for step in (0.9, 1.7, 2.5):
            places += [(x + 5, y + height * (step - 0.5)), (x + 5, y - height * (step + 0.5))]
            places += [(x - 5 - width, y + height * (step - 0.5)), (x - 5 - width, y - height * (step + 0.5))]
    return [replace(anchor, position=place) for place in places]


def _kept_inside(label: Label, picture: tuple[int, int]) -> Label:
    left, bottom, right, top = label.extent
    x = min(max(left, MARGIN), max(MARGIN, picture[0] - MARGIN - (right - left)))
    y = min(max(bottom, 3.0), max(3.0, picture[1] - 3.0 - (top - bottom)))
    return replace(label, position=(x, y))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    up = min(a[3], b[3]) - max(a[1], b[1])
    return across * up if across > 0 and up > 0 else 0.0
