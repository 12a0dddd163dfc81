"""Retrieval rules: from the shots of one query to one place in a scan's map, and back to the supports.

`paper`: every shot retrieves its nearest place, and the places are averaged (APE paper, section 3.3).
`robust`: the shots vote jointly (median of their embeddings) and the answer is smoothed over the neighbourhood by a
local linear fit, so that noise of single cells and one odd shot matter less.
"""

import numpy as np

from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.errors import LocalizationError

RULES = ("robust", "paper")

FIT_WIDTH_MM = 12.0
"""Width of the Gaussian weights of the local fit, in mm around the nearest place."""


def retrieve(embedding_map: EmbeddingMap, embeddings: np.ndarray, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Find m queries given by n shots each: embeddings (n, m, 3) -> RAS positions (m, 3) mm and distances (m,).

    `rule` is one of `RULES`; distances are in embedding mm, averaged over the shots.
    """
    shots = len(embeddings)
    if rule == "paper":
        answer = embedding_map.nearest(embeddings.reshape(-1, 3))
        return answer.points_ras.reshape(shots, -1, 3).mean(axis=0), answer.distances.reshape(shots, -1).mean(axis=0)
    if rule == "robust":
        answer = embedding_map.nearest(np.median(embeddings, axis=0))
        return answer.points_ras, answer.distances
    raise LocalizationError(f'There is no retrieval rule "{rule}". Choose one of: {", ".join(RULES)}.')


def round_trip(
    found_map: EmbeddingMap, positions: np.ndarray, support_maps: list[EmbeddingMap], clicks: np.ndarray
) -> np.ndarray:
    """Round-trip error (m,) mm of found positions (m, 3): the median over the supports (clicks (n, m, 3)).

    The found place is looked up again in each support's map; the distance from there to the original click says how
    well the two scans agree about the place. It is large when the landmark is outside the field of view.
    """
    embeddings = found_map.embedding_at(positions)
    errors = [
        np.linalg.norm(support.nearest(embeddings).points_ras - click, axis=1)
        for support, click in zip(support_maps, clicks, strict=True)
    ]
    return np.median(errors, axis=0)
