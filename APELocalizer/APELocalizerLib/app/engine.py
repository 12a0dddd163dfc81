"""The whole act in one place: a scan becomes a map, a map is learned from, a library is found on it. No Qt, no MRML.

From a notebook::

    from APELocalizerLib import Engine, Marks, read_points, read_scan
    engine = Engine()
    support, scan = read_scan("support_ct.nii.gz"), read_scan("target_ct.nii.gz")
    library = engine.learn(support, Marks(points=read_points("clicks.csv"))).library
    print(engine.localize(scan, library).points)

Command line, panel, console, evaluation, demo and benchmarks are its callers.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from APELocalizerLib.app.memory import Memory
from APELocalizerLib.core.base.errors import LibraryError, LocalizationError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, sub_progress

if TYPE_CHECKING:
    from APELocalizerLib.core.embedder import Embedder
    from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.core.library.marks import Learned, Marks
    from APELocalizerLib.core.localization.alignment import Reference
    from APELocalizerLib.core.localization.answers import Localization
    from APELocalizerLib.core.localization.correspondence import Correspondence
    from APELocalizerLib.core.localization.localize import LocalizationSettings
    from APELocalizerLib.core.model.model import Model
    from APELocalizerLib.core.scan.scan import Scan

BUILT_IN = "built-in"
"""Name of the library that comes with the extension."""

FEW = 8
"""Landmarks and organs that are looked for while getting ready: enough to go every way once."""


@dataclass(frozen=True)
class EngineSettings:
    """How scans are read: plain values, so that they can be compared, kept in a scene and sent to other processes.

    `model`: a registry id such as "default", or a model file. `device`: "auto", "cpu", "cuda:0", "mps" ….
    `reference`: the library whose landmarks coordinates are aligned with, "built-in" (used where it was learned with
    the model) or a file; None leaves coordinates as the network gives them. `one_pass`: the whole scan at once instead
    of tile by tile; None does as the model was trained.
    """

    model: str = "default"
    device: str = "auto"
    reference: str | None = BUILT_IN
    one_pass: bool | None = None


class Engine:
    """Reads scans, learns from them, and finds what was learned; the network and recent maps stay in memory."""

    def __init__(
        self,
        model: str | Path = "default",
        device: str = "auto",
        reference: str | Path | None = BUILT_IN,
        one_pass: bool | None = None,
        memory: Memory | None = None,
    ) -> None:
        """See `EngineSettings`. Nothing is loaded before it is needed. `memory` is shared with another engine."""
        named = None if reference is None else str(reference)
        self.settings = EngineSettings(str(model), device, named, one_pass)
        self._memory = memory or Memory()

    def using(self, **changes: Any) -> Engine:
        """An engine with other settings (`model`, `device`, `reference`, `one_pass`) and the same memory."""
        settings = replace(self.settings, **changes)
        return Engine(settings.model, settings.device, settings.reference, settings.one_pass, self._memory)

    @property
    def model(self) -> Model:
        """The model, loaded once. Raises ModelError."""
        return self._memory.model(self.settings.model)

    @property
    def reference(self) -> Reference | None:
        """What coordinates are aligned with, or None. Raises LibraryError, ModelError."""
        return self._memory.reference(self.settings.reference, self.model)[0]

    def library(self, name_or_path: str | Path) -> LandmarkLibrary:
        """Open a library file, or the one that comes with the extension for the name "built-in". Raises LibraryError.

        The built-in library is also the usual reference: it is read once, and what was made from it stays.
        """
        return self._memory.library(name_or_path)

    def map(
        self,
        scan: Scan,
        spacing: str = "standard",
        key: Hashable | None = None,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> EmbeddingMap:
        """Embedding map of a scan at one of the model's spacing presets.

        With a `key`, which must change whenever the scan does, the map is remembered, and taken from memory where
        nothing changed. Raises ModelError, LibraryError (the reference), DeviceError, PreparationError, Cancelled.
        """
        known = None if key is None else self._memory.recall(self._map_key(key, spacing))
        if known is not None:
            return known
        embedder, problem = self._embedder()
        embedding_map = embedder.embed(scan, spacing, progress, cancelled)
        if problem:
            embedding_map = replace(embedding_map, notes=(*embedding_map.notes, problem))
        if key is not None:
            self._memory.remember(self._map_key(key, spacing), embedding_map)
        return embedding_map

    def recall(self, key: Hashable, spacing: str = "standard") -> EmbeddingMap | None:
        """The map computed before for exactly this scan and these settings, or None."""
        if not (self._memory.has_maps and self._memory.has_model(self.settings.model)):
            return None
        try:
            wanted = self._map_key(key, spacing)
        except LibraryError:
            return None  # the reference is gone: nothing is aligned with it
        return self._memory.recall(wanted)

    def learn(
        self,
        support: Scan | EmbeddingMap,
        marks: Marks,
        library: LandmarkLibrary | None = None,
        spacing: str = "standard",
        coarse_ct: bool = True,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Learned:
        """Learn what is marked on a support: the library with one more shot of everything, and what was left out.

        `support` is a scan, or its map from `map`. Without `coarse_ct` the library keeps no coarse copy of the CT: more
        private, less exact. Raises LearningError, LibraryError, and what `map` raises.
        """
        from APELocalizerLib.core.library.library import LandmarkLibrary
        from APELocalizerLib.core.library.marks import learn_marks

        support_map = self._map_of(support, spacing, progress, cancelled)
        if not coarse_ct:
            support_map = replace(support_map, coarse_ct=None)
        learned = learn_marks(LandmarkLibrary() if library is None else library, support_map, marks)
        check_cancelled(cancelled)
        return learned

    def localize(
        self,
        scan: Scan | EmbeddingMap,
        library: LandmarkLibrary,
        settings: LocalizationSettings | None = None,
        spacing: str = "standard",
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Localization:
        """Find every landmark and organ of a library on a scan, or on its map from `map`.

        Raises LocalizationError for an empty library or one of another model, and what `map` raises.
        """
        from APELocalizerLib.core.localization.localize import localize

        self.check(library)
        embedding_map = self._map_of(scan, spacing, progress, cancelled)
        return localize(embedding_map, library, settings, self.model, progress, cancelled)

    def correspond(
        self,
        first: Scan | EmbeddingMap,
        second: Scan | EmbeddingMap,
        spacing: str = "standard",
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Correspondence:
        """Which places of two scans are the same: `to_second` and `to_first` of the result carry points over.

        Raises CorrespondenceError for the same scan twice and for scans that share nothing, and what `map` raises.
        """
        from APELocalizerLib.core.localization.correspondence import correspond

        first = self._map_of(first, spacing, sub_progress(progress, 0.0, 0.4), cancelled)
        second = self._map_of(second, spacing, sub_progress(progress, 0.4, 0.8), cancelled)
        return correspond(first, second, sub_progress(progress, 0.8, 1.0), cancelled)

    def check(self, library: LandmarkLibrary | None = None) -> None:
        """Raise now what would else be raised after a scan was read: an unknown model, a reference that nothing
        can be aligned with (ModelError, LibraryError), a library of another model (LocalizationError)."""
        self._embedder()
        if library is not None and library.model_id not in (None, self.model.id):
            raise LocalizationError(
                f"The library was learned with the model {library.model_id}, but {self.model.id} is chosen. "
                "Choose the library's model, or learn the landmarks again."
            )

    def warm_up(self, library: LandmarkLibrary | None = None, cancelled: CancelCheck | None = None) -> None:
        """Do beforehand what a first run takes longer for: import PyTorch, load the model, run it once, make the
        reference and the library's supports ready, and look for a few of its landmarks on one of them.

        Raises ModelError, DeviceError, LocalizationError, Cancelled.
        """
        from APELocalizerLib.core.localization.localize import get_ready, localize

        embedder, _ = self._embedder()
        embedder.warm_up()
        check_cancelled(cancelled)
        if library is not None and library.names:
            get_ready(library, cancelled)
            localize(library.supports[0].map, library.subset(library.names[:FEW]), cancelled=cancelled)

    def spacings(self) -> tuple[str, ...] | None:
        """Names of the model's spacing presets, or None while the model is not loaded."""
        return tuple(self.model.presets) if self._memory.has_model(self.settings.model) else None

    def forget_maps(self) -> None:
        """Let go of the maps, for their scans are gone; the model stays."""
        self._memory.forget_maps()

    def release(self) -> None:
        """Free the memory of networks, maps and libraries, also a GPU's. Not while another thread embeds."""
        self._memory.release()

    def _map_of(
        self, scan: Scan | EmbeddingMap, spacing: str, progress: Progress | None, cancelled: CancelCheck | None
    ) -> EmbeddingMap:
        from APELocalizerLib.core.scan.scan import Scan

        return self.map(scan, spacing, None, progress, cancelled) if isinstance(scan, Scan) else scan

    def _map_key(self, key: Hashable, spacing: str) -> Hashable:
        # The device is left out: it does not change the map beyond rounding. The reference counts by what it holds, so
        # that a library that was changed or replaced under the same name is aligned with anew.
        reference, _ = self._memory.reference(self.settings.reference, self.model)
        aligned_with = None if reference is None else reference.digest
        return key, self.model.id, spacing, aligned_with, self.settings.one_pass

    def _embedder(self) -> tuple[Embedder, str]:
        """What embeds scans, and what keeps it from aligning them with the built-in library ("" if nothing does)."""
        reference, problem = self._memory.reference(self.settings.reference, self.model)
        embedder = self._memory.embedder(self.model, self.settings.device, self.settings.one_pass, reference)
        return embedder, problem
