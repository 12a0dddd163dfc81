"""One map from several passes of a scan at different spacings."""

import dataclasses
from functools import cached_property

import numpy as np

from APELocalizerLib.core.base.errors import MapError
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap


def fuse(maps: list[EmbeddingMap]) -> EmbeddingMap:
    """Average several maps of one scan on the grid of the finest; coarse passes see more, fine ones resolve more.

    The result keeps the single maps as its `passes`: where they agree, an answer can be trusted more.

    Raises `MapError` if they are of different models or aligned with different references.
    """
    finest = _finest(maps)
    if len(maps) == 1:
        return finest
    if any(not finest.space.fits(single.space) for single in maps):
        raise MapError("The passes of a map belong to different models or references. Compute the map again.")
    fused = FusedMap.__new__(FusedMap)
    notes = tuple(dict.fromkeys(note for each in maps for note in each.notes))
    content = {field.name: getattr(finest, field.name) for field in dataclasses.fields(finest)}
    del content["values"]
    fused.__dict__.update(content, notes=notes, passes=tuple(maps))
    return fused


class FusedMap(EmbeddingMap):
    """The mean of its passes, taken when it is first asked for: checks against a library need the passes only."""

    @cached_property
    def values(self) -> np.ndarray:
        """Mean (a, b, c, 3) float32 of the passes in embedding mm; 0 outside the body."""
        finest = _finest(self.passes)
        points = apply_affine(finest.grid_to_ras, np.argwhere(finest.body))
        at_cells = finest.values[finest.body].astype(np.float64)
        total = sum(at_cells if each is finest else each.embedding_at(points) for each in self.passes)
        values = np.zeros_like(finest.values)
        values[finest.body] = total / len(self.passes)
        return values


def _finest(maps) -> EmbeddingMap:
    return min(maps, key=lambda each: abs(np.linalg.det(each.grid_to_ras[:3, :3])))
