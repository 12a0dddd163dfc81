"""From a scan to its embedding map: every spacing of a preset is prepared and embedded, their mean is taken, and its
coordinates are aligned with a reference."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from APELocalizerLib.core.base.device import resolve_device
from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, report, sub_progress
from APELocalizerLib.core.embedding.coarse_ct import REQUEST, CoarseCT
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.core.embedding.posture import (
    STRAIGHT,
    Pose,
    better_pose,
    coarse_ct_turned_back,
    sentence,
    thinned,
    turned_back,
    upright,
)
from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner
from APELocalizerLib.core.localization.alignment import Reference, align
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.preparation.config import PreparedScan
from APELocalizerLib.core.preparation.prepare import PreparationRequest, prepare_all
from APELocalizerLib.core.preparation.trunk import cut_to_trunk
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
        """`reference`: what the coordinates of scans are aligned with; without one they are as the network gives them.

        Raises `ModelError` for the reference of another model, `LibraryError` for one that nothing can be aligned with.
        """
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
        self.model.spacings(spacing)
        device = resolve_device(self._runner.settings.device)  # fails before the slow part, not after it
        trunk, ends = cut_to_trunk(scan)
        maps, coarse_ct = self._passes(trunk, spacing, device, progress, cancelled)
        maps, coarse_ct, turned = self._upright(trunk, maps, coarse_ct, device, cancelled)
        report(progress, PREPARATION_SHARE + NETWORK_SHARE, "Aligning coordinates")
        warnings = [warning for warning in (ends.warning, turned) if warning]
        if warnings:
            left_out, name = (ends.above_mm, ends.below_mm), scan.fingerprint
            maps = [
                replace(part, notes=(*part.notes, *warnings), left_out_mm=left_out, scan_fingerprint=name)
                for part in maps
            ]
        embedding_map = mean_of_passes(maps).with_coarse_ct(coarse_ct)
        if self._reference is not None:
            embedding_map = align(embedding_map, self._reference, cancelled)
        report(progress, 1.0, "Aligning coordinates")
        return embedding_map

    def _passes(
        self,
        scan: Scan,
        spacing: str,
        device: torch.device,
        progress: Progress | None,
        cancelled: CancelCheck | None,
    ) -> tuple[list[EmbeddingMap], CoarseCT]:
        """The map of every pass of a spacing preset, and the coarse CT."""
        return self._passes_at(scan, spacing, self.model.spacings(spacing), device, progress, cancelled)

    def _passes_at(
        self,
        scan: Scan,
        spacing: str,
        passes: Sequence[tuple[float, float, float]],
        device: torch.device,
        progress: Progress | None,
        cancelled: CancelCheck | None,
    ) -> tuple[list[EmbeddingMap], CoarseCT]:
        """The map of every pass, at these voxel sizes (P, L, I) in mm, and the coarse CT."""
        requests = [(self.model.preparation, voxel_size) for voxel_size in passes]
        share = sub_progress(progress, 0.0, PREPARATION_SHARE)
        *prepared, coarse = _prepared(scan, [*requests, REQUEST], device, share, cancelled)
        maps = []
        for number, scan_at_spacing in enumerate(prepared):
            start, stop = (PREPARATION_SHARE + NETWORK_SHARE * n / len(passes) for n in (number, number + 1))
            maps.append(self._runner.embed(scan_at_spacing, spacing, sub_progress(progress, start, stop), cancelled))
        return maps, CoarseCT.of_prepared(coarse)

    def _upright(
        self,
        scan: Scan,
        maps: list[EmbeddingMap],
        coarse_ct: CoarseCT,
        device: torch.device,
        cancelled: CancelCheck | None,
    ) -> tuple[list[EmbeddingMap], CoarseCT, str]:
        """Maps and coarse CT of a body that lies turned in the scan, read upright, and a warning; else the given ones.

        The body is embedded again only where something suggests that it is turned.
        """
        coarsest = self.model.spacings(maps[0].spacing)[:1]
        copy = thinned(scan)

        def read(pose: Pose) -> EmbeddingMap:
            return self._passes_at(upright(copy, pose)[0], maps[0].spacing, coarsest, device, None, cancelled)[0][0]

        pose = better_pose(coarse_ct, maps[0], read)
        if pose is STRAIGHT:
            return maps, coarse_ct, ""
        upright_scan, turning = upright(scan, pose)
        upright_maps, upright_ct = self._passes(upright_scan, maps[0].spacing, device, None, cancelled)
        back = [turned_back(single, turning, maps[0].field_of_view) for single in upright_maps]
        return back, coarse_ct_turned_back(upright_ct, turning), sentence(pose)

    def warm_up(self) -> None:
        """Get ready, so that the first scan takes no longer than the next; see `Runner.warm_up`."""
        self._runner.warm_up()
        if self._reference is not None:
            self._reference.get_ready()


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
    requests: list[PreparationRequest],
    device: torch.device,
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> list[PreparedScan]:
    """The scan prepared in all ways; on a GPU all the way, unless it has too little memory."""
    if device.type == "cuda":
        try:
            return prepare_all(scan, requests, progress, cancelled, device)
        except torch.cuda.OutOfMemoryError:
            pass  # only behind this, without the error's traceback, are its tensors free
        torch.cuda.empty_cache()
    return prepare_all(scan, requests, progress, cancelled)
