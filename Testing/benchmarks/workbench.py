"""What the measurements share: sizes, models, scans and maps, each made once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from APELocalizerLib.core.embedder import Embedder
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.runner import InferenceSettings
from APELocalizerLib.core.library.built_in import BUILT_IN, library_file
from APELocalizerLib.core.library.files import load_library
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.alignment import Reference, built_in_reference
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.registry import load_model
from APELocalizerLib.core.scan.scan import Scan
from benchmarks import published, scans
from benchmarks.timing import Times, alternating

CPU = InferenceSettings(device="cpu")
LATE_S = 440.0


@dataclass
class Workbench:
    """One run of the benchmark.

    `quick` measures once and cold, on scans a third as long: to try the benchmark itself. `out` is the report's
    folder, `work` one for temporary files.
    """

    out: Path
    work: Path
    quick: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def repeats(self) -> int:
        """Repeats of what takes seconds."""
        return 1 if self.late else 5

    @property
    def late(self) -> bool:
        """Whether so much time has passed that everything is now measured once, to come to an end."""
        return self.quick or time.perf_counter() - self.started > LATE_S

    def length(self, millimeters: float) -> float:
        """Length of a scan in mm, shorter in a quick run."""
        return millimeters / 3 if self.quick else millimeters

    def alternating(
        self, limit_s: float = 15.0, warm_up: Callable[[], object] | None = None, **works: Callable[[], object]
    ) -> dict[str, Times]:
        """Time things in turn, each after running once or, if given, after `warm_up`; when late only once."""
        if warm_up and not self.quick:
            warm_up()
        warm = not self.quick and warm_up is None
        return alternating(works, self.repeats, warm_up=warm, limit_s=0 if self.late else limit_s)

    @cached_property
    def default(self) -> Model:
        """The model that comes with the extension."""
        return load_model("default")

    @cached_property
    def published(self) -> Model:
        """The published network with random weights."""
        return published.random_model()

    @cached_property
    def library(self) -> LandmarkLibrary:
        """The built-in library."""
        return load_library(library_file(BUILT_IN))

    @cached_property
    def reference(self) -> Reference | None:
        """What maps of the default model are aligned with, as in every run."""
        return built_in_reference(self.default.id)

    @cached_property
    def embedder(self) -> Embedder:
        """The default model, warm, on the CPU."""
        return Embedder(self.default, CPU, self.reference)

    @cached_property
    def published_embedder(self) -> Embedder:
        """The published network, warm, on the CPU."""
        return Embedder(self.published, CPU)

    @cached_property
    def torso(self) -> Scan:
        """350 x 350 x 400 mm, 512 x 512 x 267 voxels."""
        return scans.torso(self.length(400))

    @cached_property
    def long_map(self) -> EmbeddingMap:
        """Map of a scan of 512 x 512 x 900 voxels."""
        return self.embedder.embed(scans.torso(self.length(900), slice_mm=1.0))


def body_queries(embedding_map: EmbeddingMap, count: int, seed: int = 0) -> np.ndarray:
    """Embeddings (count, 3) such as another patient's: those of random body cells, moved by some mm."""
    random = np.random.default_rng(seed)
    values = embedding_map.values[embedding_map.body]
    return values[random.integers(len(values), size=count)] + random.normal(0, 3.0, (count, 3))


def size_text(scan: Scan) -> str:
    """Voxels and mm of a scan."""
    voxels = " × ".join(map(str, scan.voxels.shape))
    millimeters = " × ".join(f"{mm:.0f}" for mm in np.array(scan.voxels.shape) * scan.spacing)
    return f"{voxels} voxels, {millimeters} mm"
