"""What an engine keeps in memory: loaded models, the network in use, maps of recent scans, the built-in library."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.core.base.errors import LibraryError

if TYPE_CHECKING:
    from APELocalizerLib.core.embedder import Embedder
    from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.core.localization.alignment import Reference
    from APELocalizerLib.core.model.model import Model

MAPS_KEPT = 8
"""Maps of recent scans that are remembered."""


class Memory:
    """Models, one warm network, maps and references; shared by the engines that one panel uses one after another.

    Only one thread at a time may embed; looking up maps is safe from any thread.
    """

    def __init__(self, load: Callable | None = None, make_embedder: Callable | None = None) -> None:
        """`load` turns a registry id or file into a `Model`, and `make_embedder` a model, inference settings and a
        reference into an `Embedder`; the core's own unless given."""
        self._load, self._make_embedder = load, make_embedder
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._models: dict[str, Model] = {}
        self._maps: OrderedDict[Hashable, EmbeddingMap] = OrderedDict()
        self._references: dict[tuple[Path, int], Reference] = {}
        self._warm: tuple[tuple, Embedder] | None = None

    def model(self, name: str) -> Model:
        """The model of a registry id or file, loaded once. Raises ModelError."""
        from APELocalizerLib.core.model.registry import load_model

        model = self._models.get(name)
        if model is None:
            model = self._models[name] = (self._load or load_model)(name)
        return model

    def has_model(self, name: str) -> bool:
        """Whether the model is loaded."""
        return name in self._models

    def library(self, name_or_path: str | Path) -> LandmarkLibrary:
        """Library of a file, or the built-in one for its name, which is read once. Raises LibraryError."""
        from APELocalizerLib.core.library.built_in import built_in_library_path, library_file
        from APELocalizerLib.core.library.files import load_library

        path = library_file(name_or_path)
        return self._reference_of(path).library if path == built_in_library_path() else load_library(path)

    def reference(self, name: str | None, model: Model) -> tuple[Reference | None, str]:
        """What coordinates are aligned with (None: nothing), and a remark where the built-in library cannot serve.

        The built-in library serves the model that it was learned with, and no other. Raises LibraryError for a library
        of one's own that cannot be read: it was asked for.
        """
        from APELocalizerLib.core.library.built_in import BUILT_IN, built_in_library_path

        if name is None:
            return None, ""
        if name != BUILT_IN:
            return self._reference_of(Path(name)), ""
        path = built_in_library_path()
        if path is None:
            return None, ""
        try:
            reference = self._reference_of(path)
            if reference.library.model_id != model.id:
                return None, ""
            reference.check()
        except LibraryError as error:  # no reason to find nothing at all
            return None, f"Coordinates are not aligned: {error}"
        return reference, ""

    def embedder(self, model: Model, device: str, one_pass: bool | None, reference: Reference | None) -> Embedder:
        """What embeds scans in this way; the last one stays warm. Raises ModelError, LibraryError."""
        from APELocalizerLib.core.embedder import Embedder
        from APELocalizerLib.core.embedding.runner import InferenceSettings

        wanted = (model.id, device, one_pass, id(reference))
        if self._warm is None or self._warm[0] != wanted:
            settings = InferenceSettings(device=device, one_pass=one_pass)
            self._warm = (wanted, (self._make_embedder or Embedder)(model, settings, reference))
        return self._warm[1]

    def recall(self, key: Hashable) -> EmbeddingMap | None:
        """The map remembered under a key, or None."""
        with self._lock:
            if key in self._maps:
                self._maps.move_to_end(key)
            return self._maps.get(key)

    @property
    def has_maps(self) -> bool:
        """Whether any map is remembered."""
        return bool(self._maps)

    def remember(self, key: Hashable, embedding_map: EmbeddingMap) -> None:
        """Remember a map; the oldest goes when there are more than `MAPS_KEPT`."""
        with self._lock:
            self._maps[key] = embedding_map
            while len(self._maps) > MAPS_KEPT:
                self._maps.popitem(last=False)

    def forget_maps(self) -> None:
        """Forget the maps alone."""
        with self._lock:
            self._maps.clear()

    def release(self) -> None:
        """Forget all, and free a GPU's memory."""
        with self._lock:
            self._maps.clear()
            self._models.clear()
            self._references.clear()
            self._warm = None
        torch = sys.modules.get("torch")  # nothing to free, and nothing to load, where it was not used
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _reference_of(self, path: Path) -> Reference:
        """The landmarks of a library file; read once as long as it does not change. Raises LibraryError."""
        from APELocalizerLib.core.library.files import load_library
        from APELocalizerLib.core.localization.alignment import Reference

        with self._reading:
            key = (path, path.stat().st_mtime_ns if path.exists() else 0)
            if key not in self._references:
                self._references = {key: Reference(load_library(path)), **_others(self._references, path)}
            return self._references[key]


def _others(references: dict, path: Path) -> dict:
    """The references of other files."""
    return {key: reference for key, reference in references.items() if key[0] != path}
