"""The warm part of the module: loaded models, the network in use and the maps of recent scans. No Qt, no MRML."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled

MAPS_KEPT = 8

FEW = 8
"""Landmarks and organs that are looked for while warming up: enough to go every way once."""


class Engine:
    """Embeds scans and remembers the maps.

    A map is found again by everything it depends on: the scan (`scan_key`, see `tasks.scan_key`), the model's id,
    the spacing and the inference settings other than the device.
    """

    def __init__(self, load: Callable | None = None, make_embedder: Callable | None = None) -> None:
        """`load` turns a registry id or file into a `Model` and `make_embedder` a model and settings into an
        `Embedder`; the core's own unless given."""
        self._load, self._make_embedder = load, make_embedder
        self._lock = threading.Lock()
        self._models: dict[str, object] = {}
        self._maps: OrderedDict[Hashable, object] = OrderedDict()
        self._embedder: tuple[Hashable, object] | None = None

    def loaded_model(self, model: str = "default"):
        """The `Model` of a registry id or file, loaded once. Raises CheckpointError."""
        from APELocalizerLib.core.model.registry import load_model

        found = self._models.get(model)
        if found is None:
            found = self._models[model] = (self._load or load_model)(model)
        return found

    def spacings(self, model: str = "default") -> tuple[str, ...] | None:
        """Names of a model's spacing presets, or None while the model is not loaded."""
        loaded = self._models.get(model)
        return None if loaded is None else tuple(loaded.presets)

    def embed(
        self,
        scan,
        scan_key: Hashable,
        model: str = "default",
        spacing: str = "standard",
        device: str = "auto",
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ):
        """The scan's `EmbeddingMap`, from memory where nothing changed. Raises ScanError, DeviceError, Cancelled …"""
        key = self._map_key(scan_key, model, spacing)
        found = self._recall(key)
        if found is None:
            found = self._warm_embedder(model, device).embed(scan, spacing, progress, cancelled)
            with self._lock:
                self._maps[key] = found
                while len(self._maps) > MAPS_KEPT:
                    self._maps.popitem(last=False)
        return found

    def warm_up(
        self, model: str = "default", device: str = "auto", library=None, cancelled: CancelCheck | None = None
    ) -> None:
        """Do beforehand what a first run takes longer for: import PyTorch, load the model, run it once, make the
        library's supports ready, and look for a few of its landmarks on one of them.

        Raises CheckpointError, DeviceError, LocalizationError, Cancelled.
        """
        from APELocalizerLib.core.localization.localize import get_ready, localize

        self._warm_embedder(model, device).warm_up()
        check_cancelled(cancelled)
        if library is not None and library.names:
            get_ready(library, cancelled)
            localize(library.supports[0].map, library.subset(library.names[:FEW]), cancelled=cancelled)

    def recall(self, scan_key: Hashable, model: str, spacing: str):
        """The map computed before for exactly this, or None."""
        return self._recall(self._map_key(scan_key, model, spacing)) if model in self._models else None

    def forget_maps(self) -> None:
        """Let go of the maps, for their scans are gone; the model stays."""
        with self._lock:
            self._maps.clear()

    def release(self) -> None:
        """Free the network's and the maps' memory, also a GPU's. Not while another thread embeds: see `Worker`."""
        with self._lock:
            self._maps.clear()
            self._models.clear()
            self._embedder = None
        torch = sys.modules.get("torch")  # nothing to free, and nothing to load, where it was not used
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _recall(self, key: Hashable):
        with self._lock:
            if key in self._maps:
                self._maps.move_to_end(key)
            return self._maps.get(key)

    def _map_key(self, scan_key: Hashable, model: str, spacing: str) -> Hashable:
        # The device is left out: it does not change the map beyond rounding.
        return scan_key, self.loaded_model(model).id, spacing, self._settings("auto")

    def _warm_embedder(self, model: str, device: str):
        from APELocalizerLib.core.embedder import Embedder

        loaded_model, settings = self.loaded_model(model), self._settings(device)
        wanted, warm = (loaded_model.id, settings), self._embedder
        if warm is None or warm[0] != wanted:
            warm = self._embedder = (wanted, (self._make_embedder or Embedder)(loaded_model, settings))
        return warm[1]

    @staticmethod
    def _settings(device: str):
        from APELocalizerLib.core.embedding.runner import InferenceSettings

        return InferenceSettings(device=device)
