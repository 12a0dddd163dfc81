"""From a scan to its embedding map: every spacing of a preset is prepared and embedded, the maps are fused, and their
coordinates are aligned with a reference."""

from contextlib import suppress
from dataclasses import replace

import torch

from APELocalizerLib.core.base.device import resolve_device
from APELocalizerLib.core.base.errors import LibraryError, ModelError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, report, sub_progress
from APELocalizerLib.core.embedding.coarse_ct import VIEW, CoarseCT
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.passes import fuse
from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner
from APELocalizerLib.core.localization.alignment import Reference, align, built_in_reference
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.preparation.config import PreparedScan
from APELocalizerLib.core.preparation.prepare import PreparationRequest, prepare_all
from APELocalizerLib.core.scan.scan import Scan

PREPARATION_SHARE, NETWORK_SHARE = 0.35, 0.5
"""Parts of the work that preparation and network take, for the progress bar; the rest is alignment."""


class Embedder:
    """Embeds scans with one model; the network stays loaded between scans."""

    def __init__(
        self,
        model: Model,
        settings: InferenceSettings | None = None,
        reference: Reference | None = None,
    ) -> None:
        """`reference`: what scans are aligned with, if the settings say so (default: the built-in library, if it was
        learned with the model). Raises `ModelError` for the reference of another model, and
        `LibraryError` for one that nothing can be aligned with."""
        if reference is not None and reference.library.model_id not in (None, model.id):
            raise ModelError(
                f"Scans of the model {model.id} cannot be aligned with a library of the model "
                f"{reference.library.model_id}. Choose a library that was learned with this model."
            )
        if reference is not None:
            reference.check()
        self.model = model
        self._runner = Runner(model, settings or InferenceSettings())
        self._reference = reference

    def embed(
        self,
        scan: Scan,
        spacing: str = "standard",
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> EmbeddingMap:
        """Embedding map of a scan at one of the model's spacing presets.

        Raises `ModelError` for an unknown preset, `DeviceError` for an unknown device, `PreparationError` when no
        body is found, `Cancelled`.
        """
        passes = self.model.spacings(spacing)
        device = resolve_device(self._runner.settings.device)  # fails before the slow part, not after it
        share = sub_progress(progress, 0.0, PREPARATION_SHARE)
        views = [(self.model.preparation, voxel_size) for voxel_size in passes]
        *prepared, coarse = _prepared(scan, [*views, VIEW], device, share, cancelled)
        maps = []
        for number, each in enumerate(prepared):
            start, stop = (PREPARATION_SHARE + NETWORK_SHARE * n / len(passes) for n in (number, number + 1))
            maps.append(self._runner.embed(each, spacing, sub_progress(progress, start, stop), cancelled))
        report(progress, PREPARATION_SHARE + NETWORK_SHARE, "Aligning coordinates")
        found = fuse(maps).with_coarse_ct(CoarseCT.of_prepared(coarse))
        try:
            reference = self._what_to_align_with()
        except LibraryError as error:  # no reason to find nothing at all
            return replace(found, notes=(*found.notes, f"Coordinates are not aligned: {error}"))
        if reference is not None:
            found = align(found, reference, cancelled)
        report(progress, 1.0, "Aligning coordinates")
        return found

    def warm_up(self) -> None:
        """Get ready, so that the first scan takes no longer than the next; see `Runner.warm_up`."""
        self._runner.warm_up()
        with suppress(LibraryError):  # the first scan will say so
            reference = self._what_to_align_with()
            if reference is not None:
                reference.get_ready()

    def _what_to_align_with(self) -> Reference | None:
        """The reference, if coordinates are to be aligned and there is one for the model.

        Raises `LibraryError` if the built-in library is damaged.
        """
        if not self._runner.settings.align:
            return None
        return self._reference or built_in_reference(self.model.id)


def embed_scan(
    scan: Scan,
    model: Model,
    spacing: str = "standard",
    settings: InferenceSettings | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> EmbeddingMap:
    """Embedding map of one scan; see `Embedder.embed`. Use an `Embedder` for several scans."""
    return Embedder(model, settings).embed(scan, spacing, progress, cancelled)


def _prepared(
    scan: Scan,
    views: list[PreparationRequest],
    device: torch.device,
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> list[PreparedScan]:
    """The scan in all views; on a GPU all the way, unless its memory does not suffice."""
    if device.type == "cuda":
        try:
            return prepare_all(scan, views, progress, cancelled, device)
        except torch.cuda.OutOfMemoryError:
            pass  # only behind this, without the error's traceback, are its tensors free
        torch.cuda.empty_cache()
    return prepare_all(scan, views, progress, cancelled)
