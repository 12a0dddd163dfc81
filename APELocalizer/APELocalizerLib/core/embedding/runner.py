"""From a prepared scan to its embedding map: tiles or one pass, on any device, with a way out when memory runs out.

On a GPU the image is uploaded as a whole (or is there already), tiles are cut, embedded and blended there, and the map
comes back in one piece.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.base.device import resolve_device
from APELocalizerLib.core.base.errors import DeviceError
from APELocalizerLib.core.base.geometry import Shape, shape_of, subgrid_affine
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.tiles import TileBox, blend_tiles, padded_length, tile_boxes
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.networks import Forward, on_cpu
from APELocalizerLib.core.preparation.config import PreparedScan

BODY_FRACTION = 0.25
"""A cell belongs to the body if at least this part of its voxels does."""


@dataclass(frozen=True)
class InferenceSettings:
    """How the network is run.

    `tile` voxels of the prepared grid; `overlap` is a fraction of a tile; `one_pass` None means as the model was
    trained; `mixed_precision` None means half precision on CUDA and, for networks as wide as the published one,
    bfloat16 on processors made for it (a third faster; on the default model it moves places by about 0.1 mm, on the
    published one, without its weights, this could not be measured); `cpu_fallback` allows the last step when a GPU's
    memory is full.
    """

    device: str = "auto"
    tile: tuple[int, int, int] = (96, 96, 64)
    overlap: float = 0.5
    one_pass: bool | None = None
    batch_size: int = 4
    mixed_precision: bool | None = None
    cpu_fallback: bool = True

    def __post_init__(self) -> None:
        if len(self.tile) != 3 or min(self.tile) < 32 or any(n % 4 for n in self.tile) or not 0 <= self.overlap < 1:
            raise DeviceError("Tiles must be at least 32 voxels and a multiple of 4 along each axis, overlap below 1.")


class Runner:
    """Keeps one network warm on one device and embeds prepared scans with it."""

    def __init__(self, model: Model, settings: InferenceSettings = InferenceSettings()) -> None:
        self.model = model
        self.settings = settings
        self._network: Forward | None = None
        self._network_device: torch.device | None = None

    def embed(
        self,
        prepared: PreparedScan,
        spacing_name: str = "standard",
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> EmbeddingMap:
        """Embedding map of a prepared scan. Raises `Cancelled`, or `DeviceError` when even the last resort fails."""
        plan = self._first_plan()
        notes: list[str] = []
        while True:
            try:
                output = self._run(prepared.image, plan, progress, cancelled)
                break
            except RuntimeError as error:
                unsupported = _is_unsupported(error) and plan.device.type != "cpu"
                if not (is_out_of_memory(error) or unsupported and self.settings.cpu_fallback):
                    raise
            # only here, without the error and its traceback, are the failed attempt's tensors free
            if unsupported:
                plan, note = replace(plan, device=torch.device("cpu")), "The GPU lacks an operation: the CPU was used."
            else:
                plan, note = self._smaller_plan(plan)
            notes.append(note)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return self._as_map(prepared, output, spacing_name, tuple(notes))

    def _first_plan(self) -> "_Plan":
        one_pass = self.model.one_pass if self.settings.one_pass is None else self.settings.one_pass
        device = resolve_device(self.settings.device)
        tile = None if one_pass else self.settings.tile
        return _Plan(device, tile, 1 if one_pass else max(1, self.settings.batch_size))

    def _smaller_plan(self, plan: "_Plan") -> tuple["_Plan", str]:
        """Next rung of the ladder: smaller batch, smaller tile, CPU; with the sentence that says so."""
        smallest = self.model.network.total_stride
        if plan.tile is None:
            return replace(plan, tile=self.settings.tile), "Memory ran out: the scan was embedded in tiles."
        if plan.batch_size > 1:
            batch = plan.batch_size // 2
            return replace(plan, batch_size=batch), f"Memory ran out: {batch} tile(s) at a time were embedded."
        if min(plan.tile) > smallest or max(plan.tile) > 2 * smallest:
            tile = shape_of(max(smallest, n * 2 // 3 // smallest * smallest) for n in plan.tile)
            if tile != plan.tile:
                size = "x".join(map(str, tile))
                return replace(plan, tile=tile), f"Memory ran out: smaller tiles ({size}) were used."
        if plan.device.type != "cpu" and self.settings.cpu_fallback:
            return _Plan(torch.device("cpu"), self.settings.tile, 1), "The GPU's memory ran out: the CPU was used."
        raise DeviceError(
            "There is not enough memory to embed this scan. Close other programs, choose a coarser spacing, or crop it."
        )

    def warm_up(self) -> None:
        """Build the network and run it once on next to nothing, so that the first scan does not wait for it.

        Meant for a background thread while the user is still choosing a scan. On a GPU, tiles are run in the size and
        number of a scan's, for which plans are made there. Raises `DeviceError`.
        """
        plan = self._first_plan()
        if plan.device.type == "cpu" or plan.tile is None:
            shape, plan = shape_of([self.model.network.total_stride] * 3), replace(plan, tile=None)
        else:
            shape = (plan.tile[0] * plan.batch_size, *plan.tile[1:])
        self._run(torch.zeros(shape), plan, None, None)

    def _network_on(self, device: torch.device) -> Forward:
        if self._network is None or self._network_device != device:
            self._network = None
            network = self.model.build_network()
            if device.type == "cpu":
                self._network = on_cpu(network, self.settings.mixed_precision)
            else:
                self._network = network.to(device)
            self._network_device = device
        return self._network

    def _run(
        self, image: np.ndarray | Tensor, plan: "_Plan", progress: Progress | None, cancelled: CancelCheck | None
    ) -> Tensor:
        """Network output (channels, a, b, c) in 0..1 for an image (p, l, i), on the plan's device."""
        check_cancelled(cancelled)
        stride, smallest = self.model.network.stride, self.model.network.total_stride
        wanted = shape_of([smallest] * 3) if plan.tile is None else plan.tile
        padded = shape_of(padded_length(n, w, stride) for n, w in zip(image.shape, wanted, strict=True))
        tile = padded if plan.tile is None else plan.tile
        uploaded = torch.as_tensor(image).to(plan.device, torch.float32)
        volume, visible = _pad(uploaded, padded, self.model.padding)
        network = self._network_on(plan.device)
        half = plan.device.type == "cuda" and self.settings.mixed_precision is not False

        def forward(tiles: list[TileBox]) -> Tensor:
            batch = (
                volume[tiles[0]][None, None] if len(tiles) == 1 else torch.stack([volume[t] for t in tiles])[:, None]
            )
            seen = torch.stack([visible[where] for where in tiles]) if visible is not None else None
            with torch.inference_mode(), torch.autocast("cuda", torch.float16) if half else nullcontext():
                return network(batch, seen).float()

        tiles = tile_boxes(padded, tile, self.settings.overlap, stride)
        output = blend_tiles(forward, tiles, tile, padded, stride, plan.batch_size, progress, cancelled)
        cells = tuple(-(-n // stride) for n in image.shape)
        return output[:, : cells[0], : cells[1], : cells[2]]

    def _as_map(
        self, prepared: PreparedScan, output: Tensor, spacing_name: str, notes: tuple[str, ...]
    ) -> EmbeddingMap:
        stride = self.model.network.stride
        scale = np.array(self.model.scale, dtype=np.float32)
        offset = np.array(self.model.offset, dtype=np.float32)
        return EmbeddingMap(
            values=output.permute(1, 2, 3, 0).contiguous().cpu().numpy() * scale + offset,
            body=body_cells(prepared.body_mask, stride),
            grid_to_ras=subgrid_affine(prepared.grid_to_ras, np.full(3, (stride - 1) / 2), np.full(3, stride)),
            space=CoordinateSpace(self.model.id),
            spacing=spacing_name,
            field_of_view=prepared.field_of_view,
            scan_name=prepared.scan_name,
            scan_fingerprint=prepared.scan_fingerprint,
            notes=notes,
        )


@dataclass(frozen=True)
class _Plan:
    device: torch.device
    tile: Shape | None
    batch_size: int


def body_cells(mask: np.ndarray | Tensor, stride: int) -> np.ndarray:
    """Cells of `stride` voxels per axis of which at least a quarter is body; the remainder at the end is a cell too."""
    voxels, _ = _pad(torch.as_tensor(mask).float(), shape_of(-(-n // stride) * stride for n in mask.shape), "edge")
    fraction = torch.nn.functional.avg_pool3d(voxels[None, None], stride)[0, 0]
    return (fraction >= BODY_FRACTION).cpu().numpy()


def _pad(image: Tensor, size: Shape, mode: str) -> tuple[Tensor, Tensor | None]:
    """Image padded at the end of each axis, and the mask of real voxels (None where there is nothing to hide)."""
    missing = [size[axis] - image.shape[axis] for axis in range(3)]
    if not any(missing):
        return image, None
    pads = (0, missing[2], 0, missing[1], 0, missing[0])
    if mode == "edge":
        padded = image.new_empty(size)
        padded[tuple(slice(n) for n in image.shape)] = image
        for axis, (length, more) in enumerate(zip(image.shape, missing, strict=True)):
            padded.narrow(axis, length, more).copy_(padded.narrow(axis, length - 1, 1))
        return padded, None
    visible = torch.nn.functional.pad(torch.ones_like(image), pads)
    return torch.nn.functional.pad(image, pads), visible


def is_out_of_memory(error: RuntimeError) -> bool:
    words = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(word in str(error).lower() for word in words)


def _is_unsupported(error: RuntimeError) -> bool:
    """Some 3-D operations are missing on MPS; a GPU may be older than those that PyTorch was built for."""
    return isinstance(error, NotImplementedError) or "no kernel image" in str(error).lower()
