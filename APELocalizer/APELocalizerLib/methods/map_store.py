"""Embedding maps of the method `ape`, kept in a folder between runs, so that a repeated study takes seconds.

A map's name is made from the model, the spacing, the scan, and the source of the core: change one and it is
computed anew. Each pass is a .nrrd file, exact to the last bit, so that results do not depend on the store.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from APELocalizerLib import core
from APELocalizerLib.core.base.errors import MapError
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.map_files import load_map, save_map
from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.core.scan.scan import Scan

SECONDS = "seconds.json"
"""File that notes how many passes a map has, and how long it took."""


class MapStore:
    """Maps in a folder; without a folder nothing is kept."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)

    def get(
        self, scan: Scan, model_id: str, spacing: str, embed: Callable[[Scan], EmbeddingMap]
    ) -> tuple[EmbeddingMap, float]:
        """Map of a scan and the seconds that computing it took (when it was computed)."""
        folder = None if self.folder is None else self.folder / _name(scan, model_id, spacing)
        if folder is not None and folder.is_dir():
            try:
                return _read(folder)
            except (MapError, OSError, ValueError):
                shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        embedding_map = embed(scan)
        seconds = time.perf_counter() - start
        if folder is not None:
            _write(folder, embedding_map, seconds)
        return embedding_map, seconds


def _name(scan: Scan, model_id: str, spacing: str) -> str:
    return f"map-{_digest(model_id, spacing, _code())}-{scan.fingerprint}"


@cache
def _code() -> str:
    """Digest of the core's source: a map made by other code is not the map that would be made now."""
    return _digest(*[path.read_text(encoding="utf-8") for path in sorted(Path(core.__file__).parent.rglob("*.py"))])


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _read(folder: Path) -> tuple[EmbeddingMap, float]:
    noted = json.loads((folder / SECONDS).read_text(encoding="utf-8"))
    passes = [load_map(folder / f"pass{number}.nrrd") for number in range(noted["passes"])]
    coarse_ct = passes[0].coarse_ct
    whole = mean_of_passes([one_pass.with_coarse_ct(None) for one_pass in passes])
    return replace(whole, coarse_ct=coarse_ct), float(noted["seconds"])


def _write(folder: Path, embedding_map: EmbeddingMap, seconds: float) -> None:
    """Write beside, then rename: a folder of this name is always complete. The coarse CT goes with the first pass."""
    first, *others = embedding_map.passes or (embedding_map,)
    passes = [first.with_coarse_ct(embedding_map.coarse_ct), *others]
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    unfinished.mkdir(parents=True, exist_ok=True)
    try:
        for number, one_pass in enumerate(passes):
            save_map(one_pass, unfinished / f"pass{number}.nrrd")
        (unfinished / SECONDS).write_text(json.dumps({"passes": len(passes), "seconds": seconds}))
        if not folder.is_dir():
            os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
