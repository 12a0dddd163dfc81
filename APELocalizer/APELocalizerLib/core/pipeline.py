"""From a scan to its embedding map: every spacing of a preset is prepared and embedded, and the maps are fused."""

from dataclasses import replace

from APELocalizerLib.core.appearance import Appearance
from APELocalizerLib.core.checkpoints import Checkpoint
from APELocalizerLib.core.device import resolve_device
from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.fusion import fuse
from APELocalizerLib.core.inference import InferenceSettings, Runner
from APELocalizerLib.core.preparation import prepare
from APELocalizerLib.core.progress import CancelCheck, Progress, sub_progress
from APELocalizerLib.core.scan import Scan

PREPARATION_SHARE = 0.4
"""Part of a pass that preparation takes, for the progress bar."""


class Embedder:
    """Embeds scans with one checkpoint; the network stays loaded between scans."""

    def __init__(self, checkpoint: Checkpoint, settings: InferenceSettings | None = None) -> None:
        self.checkpoint = checkpoint
        self._runner = Runner(checkpoint, settings or InferenceSettings())

    def embed(
        self,
        scan: Scan,
        spacing: str = "standard",
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> EmbeddingMap:
        """Embedding map of a scan at one of the checkpoint's spacing presets.

        Raises `CheckpointError` for an unknown preset, `DeviceError` for an unknown device, `PreparationError` when no
        body is found, `Cancelled`.
        """
        passes = self.checkpoint.spacings(spacing)
        resolve_device(self._runner.settings.device)  # fails before the slow part, not after it
        maps = []
        for number, voxel_size in enumerate(passes):
            share = sub_progress(progress, number / len(passes), (number + 1) / len(passes))
            prepared = prepare(
                scan, self.checkpoint.preparation, voxel_size, sub_progress(share, 0.0, PREPARATION_SHARE), cancelled
            )
            maps.append(self._runner.embed(prepared, spacing, sub_progress(share, PREPARATION_SHARE, 1.0), cancelled))
        return replace(fuse(maps), appearance=Appearance.of(scan, cancelled))


def embed_scan(
    scan: Scan,
    checkpoint: Checkpoint,
    spacing: str = "standard",
    settings: InferenceSettings | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> EmbeddingMap:
    """Embedding map of one scan; see `Embedder.embed`. Use an `Embedder` for several scans."""
    return Embedder(checkpoint, settings).embed(scan, spacing, progress, cancelled)
