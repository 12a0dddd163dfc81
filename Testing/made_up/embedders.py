"""What embeds scans in place of a network."""

import threading

import numpy as np

from APELocalizerLib.core.base.progress import check_cancelled, report
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from made_up.maps import map_of


class KnowingEmbedder:
    """Instead of a network: knows the torso, so that each place's embedding is its position in the standard torso.

    It works only while its gate is open, and remembers which scans it embedded.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.fail_with: Exception | None = None
        self.embedded: list[str] = []
        self.notes: tuple[str, ...] = ()
        self.with_coarse_ct = False
        self.threads: set[str] = set()
        self.warm_gate = threading.Event()
        self.warm_gate.set()
        self.warming = threading.Event()
        self.warmed = 0

    def warm_up(self) -> None:
        self.warming.set()
        self.warm_gate.wait(30)
        if self.fail_with:
            raise self.fail_with
        self.warmed += 1

    def __call__(self, model, settings, reference=None) -> "KnowingEmbedder":
        self.model = model
        return self

    def embed(self, scan, spacing="standard", progress=None, cancelled=None) -> EmbeddingMap:
        self.threads.add(threading.current_thread().name)
        self.started.set()
        while not self.gate.wait(0.005):
            check_cancelled(cancelled)
            report(progress, 0.5, "Tile 5 of 10")
        check_cancelled(cancelled)
        if self.fail_with:
            raise self.fail_with
        self.embedded.append(scan.name)
        return map_of(
            tuple(np.array(scan.voxels.shape) // 2),
            scan.ijk_to_ras @ np.diag([2.0, 2.0, 2.0, 1.0]),
            lambda positions: positions,
            lambda _positions: scan.voxels[::2, ::2, ::2] > -950,
            model_id=self.model.id,
            spacing=spacing,
            field_of_view=scan.bounds(),
            scan_name=scan.name,
            scan_fingerprint=scan.fingerprint,
            notes=self.notes,
            coarse_ct=CoarseCT.of(scan) if self.with_coarse_ct else None,
        )
