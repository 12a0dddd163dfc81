"""One map from several passes of a scan at different spacings."""

import dataclasses

import numpy as np

from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.geometry import apply_affine


def fuse(maps: list[EmbeddingMap]) -> EmbeddingMap:
    """Average several maps of one scan on the grid of the finest; coarse passes see more, fine ones resolve more.

    The result keeps the single maps as its `passes`: where they agree, an answer can be trusted more.
    """
    finest = min(maps, key=lambda each: abs(np.linalg.det(each.grid_to_ras[:3, :3])))
    if len(maps) == 1:
        return finest
    points = apply_affine(finest.grid_to_ras, np.argwhere(finest.body))
    total = sum(each.embedding_at(points) for each in maps)
    values = np.zeros_like(finest.values)
    values[finest.body] = total / len(maps)
    notes = tuple(dict.fromkeys(note for each in maps for note in each.notes))
    return dataclasses.replace(finest, values=values, notes=notes, passes=tuple(maps))
