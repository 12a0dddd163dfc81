"""From a scan to its embedding map: every spacing of a preset is prepared and embedded, and the maps are fused."""

import torch

from APELocalizerLib.core.appearance import VIEW, Appearance
from APELocalizerLib.core.checkpoints import Checkpoint
from APELocalizerLib.core.device import resolve_device
from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.fusion import fuse
from APELocalizerLib.core.inference import InferenceSettings, Runner
from APELocalizerLib.core.preparation import PreparedScan, View, prepare_all
from APELocalizerLib.core.progress import CancelCheck, Progress, sub_progress
from APELocalizerLib.core.scan import Scan

PREPARATION_SHARE = 0.4
"""Part of the work that preparation takes, for the progress bar."""


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
        device = resolve_device(self._runner.settings.device)  # fails before the slow part, not after it
        share = sub_progress(progress, 0.0, PREPARATION_SHARE)
        views = [(self.checkpoint.preparation, voxel_size) for voxel_size in passes]
        *prepared, coarse = _prepared(scan, [*views, VIEW], device, share, cancelled)
        maps = []
        for number, each in enumerate(prepared):
            start, stop = (PREPARATION_SHARE + (1 - PREPARATION_SHARE) * n / len(passes) for n in (number, number + 1))
            maps.append(self._runner.embed(each, spacing, sub_progress(progress, start, stop), cancelled))
        return fuse(maps).with_appearance(Appearance.of_prepared(coarse))

    def warm_up(self) -> None:
        """Get ready, so that the first scan takes no longer than the next; see `Runner.warm_up`."""
        self._runner.warm_up()


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


def _prepared(
    scan: Scan, views: list[View], device: torch.device, progress: Progress | None, cancelled: CancelCheck | None
) -> list[PreparedScan]:
    """The scan in all views; on a GPU all the way, unless its memory does not suffice."""
    if device.type == "cuda":
        try:
            return prepare_all(scan, views, progress, cancelled, device)
        except torch.cuda.OutOfMemoryError:
            pass  # only behind this, without the error's traceback, are its tensors free
        torch.cuda.empty_cache()
    return prepare_all(scan, views, progress, cancelled)
