"""What preparation does with voxels, whoever does it: arrays on the CPU, or tensors on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from APELocalizerLib.core.base.progress import CancelCheck, Progress
from APELocalizerLib.core.preparation.grids import Box, Samplings
from APELocalizerLib.core.scan.scan import Scan

if TYPE_CHECKING:  # a library can be read where PyTorch is not installed
    from torch import Tensor

    from APELocalizerLib.core.preparation.config import PreparationConfig

Volume = TypeVar("Volume", np.ndarray, "Tensor")
"""A stack of slices (I, P, L), or a mask of that shape: an array on the CPU, a tensor on a GPU."""


class PreparationSteps(Protocol[Volume]):
    """The steps of `prepare.prepare_all`: `CpuPreparation` and `GpuPreparation` give the same answers."""

    def stack(self, scan: Scan) -> tuple[Volume, np.ndarray]:
        """Stack (I, P, L) of a scan, and the 4x4 index-to-RAS matrix of its canonical grid (P, L, I)."""

    def body_box(
        self, stack: Volume, spacing: np.ndarray, threshold: float, margins: tuple[int, int, int]
    ) -> Box | None:
        """Box around the body of a stack with voxels of `spacing` (I, P, L) mm; None if there is no body."""

    def body_center(self, stack: Volume) -> np.ndarray:
        """Center of mass (3,) of the body in a stack, as a fractional index (I, P, L)."""

    def resample(
        self,
        stack: Volume,
        grids: list[Samplings],
        limits: tuple[float, float] | None,
        antialias: bool,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> list[Volume]:
        """Float32 stacks on all grids. Without antialiasing two voxels are blended so that equal ones stay equal."""

    def for_each(
        self,
        work: Callable[[int, Progress | None], None],
        count: int,
        progress: Progress | None,
        cancelled: CancelCheck | None,
    ) -> None:
        """Call work(n, share of progress) for n = 0 … count - 1."""

    def body_mask(self, air: Volume, within: np.ndarray) -> Volume:
        """Body mask, and False where `within` is."""

    def windowed(self, hu: Volume, window: tuple[float, float]) -> Volume:
        """HU to 0..1, in place."""

    def at(self, mask: Volume, indices: list[np.ndarray]) -> Volume:
        """The mask at one list of indices per axis."""

    def posterior_left_inferior(self, stack: Volume) -> Volume:
        """Stack (I, P, L) as (P, L, I)."""

    def equalized(
        self,
        stack: Volume,
        samplings: Samplings,
        hu: Volume,
        config: PreparationConfig,
        progress: Progress | None,
        cancelled: CancelCheck | None,
    ) -> tuple[Volume, Volume, list[int]]:
        """Crop, equalization and body mask on the base grid: (image, mask, first index (3,) of the crop)."""
