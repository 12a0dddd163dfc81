"""One map from several passes of a scan at different spacings."""

import dataclasses
from functools import cached_property

import numpy as np

from APELocalizerLib.core.base.errors import MapError
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap


def mean_of_passes(maps: list[EmbeddingMap]) -> EmbeddingMap:
    """Average several maps of one scan on the grid of the finest; coarse passes see more, fine ones resolve more.

    The result keeps the single maps as its `passes`: where they agree, an answer can be trusted more.

    Raises `MapError` if they are of different models or aligned with different references.
    """
    finest = _finest(maps)
    if len(maps) == 1:
        return finest
    if any(not finest.space.fits(single.space) for single in maps):
        raise MapError("The passes of a map belong to different models or references. Compute the map again.")
    mean = MeanMap.__new__(MeanMap)
    notes = tuple(dict.fromkeys(note for single in maps for note in single.notes))
    content = {field.name: getattr(finest, field.name) for field in dataclasses.fields(finest)}
    del content["values"]
    mean.__dict__.update(content, notes=notes, passes=tuple(maps))
    return mean


class MeanMap(EmbeddingMap):
    """The mean of its passes, taken when it is first asked for: checks against a library need the passes only."""

    @property
    def channels(self) -> int:
        """Numbers per cell, known without taking the mean."""
        return self.passes[0].channels

    @cached_property
    def values(self) -> np.ndarray:
        """Mean (a, b, c, channels) float32 of the passes in embedding mm; 0 outside the body."""
        finest = _finest(self.passes)
        points = apply_affine(finest.grid_to_ras, np.argwhere(finest.body))
        at_cells = finest.values[finest.body].astype(np.float64)
        total = sum(at_cells if single is finest else single.embedding_at(points) for single in self.passes)
        values = np.zeros_like(finest.values)
        values[finest.body] = total / len(self.passes)
        return values


def _finest(maps) -> EmbeddingMap:
    return min(maps, key=lambda single: abs(np.linalg.det(single.grid_to_ras[:3, :3])))
