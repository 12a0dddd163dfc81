"""Validation without annotations: a place of one virtual patient is looked up in another one of the same scan.

Where landmarks are given for some scans, these are looked up in the other scans too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.base.geometry import shape_of
from APELocalizerLib.training.data.volumes import Volume, VolumeSource
from APELocalizerLib.training.objectives.heads import TrainedNetwork
from APELocalizerLib.training.objectives.retrieval import stride_of, upsample
from APELocalizerLib.training.patients.pairs import Lattice
from APELocalizerLib.training.patients.virtual_patients import STRIDE, Deformation
from APELocalizerLib.training.patients.warps import Warp

_QUERIES = 128
_MOST_VOXELS = 2_000_000


@dataclass(eq=False)
class PatientMap:
    """Embedding of a virtual patient, whole: values (n, 3) of its body voxels and their positions (n, 3) in mm."""

    values: Tensor
    positions: Tensor
    lattice: Lattice
    cells: Tensor

    def embedding_at(self, positions: Tensor) -> Tensor:
        """Embedding (n, 3) at positions (n, 3) mm."""
        crop = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
        return self.lattice.places(crop, positions).read(self.cells)

    def nearest(self, queries: Tensor) -> Tensor:
        """Positions (n, 3) of the body voxels whose embedding is nearest to queries (n, 3)."""
        return torch.stack([self.positions[((self.values - q) ** 2).sum(1).argmin()] for q in queries])

    def covers(self, positions: Tensor) -> Tensor:
        """Which positions (n, 3) lie between the centers of the outermost cells."""
        low, high = (torch.as_tensor(a[0], dtype=positions.dtype) for a in (self.lattice.low, self.lattice.high))
        return ((positions >= low.to(positions.device)) & (positions <= high.to(positions.device))).all(1)


class SelfConsistency:
    """Retrieval errors in mm on a few scans, always with the same virtual patients."""

    def __init__(
        self,
        sources: Sequence[VolumeSource],
        deformation: Deformation,
        spacing: tuple[float, float, float],
        device: torch.device,
        seed: int = 0,
        landmarks: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        """landmarks: name of scan -> name of landmark -> RAS mm (3,). spacing: mm at which scans are embedded."""
        self.sources, self.deformation, self.spacing = list(sources), deformation, np.array(spacing)
        self.device, self.seed, self.landmarks = device, seed, landmarks or {}

    @torch.inference_mode()
    def measure(self, model: TrainedNetwork) -> dict[str, float]:
        """Median and mean error between virtual patients ("self") and, if known, of landmarks between scans."""
        metrics: dict[str, float] = {}
        errors = [self._between_virtual_patients(model, source, n) for n, source in enumerate(self.sources)]
        for name, values in (
            ("self", np.concatenate(errors or [np.zeros(0)])),
            ("landmarks", self._between_scans(model)),
        ):
            if len(values):
                metrics |= {f"{name}_median_mm": float(np.median(values)), f"{name}_mean_mm": float(np.mean(values))}
        return metrics

    def _between_virtual_patients(self, model: TrainedNetwork, source: VolumeSource, number: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, number, 2))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        volume = source.load(self.device)
        warps = [Warp.random(volume.low, volume.high, self.deformation, rng, generator) for _ in range(2)]
        one, other = (self._embed(model, volume, warp) for warp in warps)
        chosen = torch.from_numpy(rng.integers(len(one.positions), size=_QUERIES)).to(self.device)
        here = one.positions[chosen]
        there = warps[1].inverse(warps[0].at(here))
        arrived = (warps[1].at(there) - warps[0].at(here)).norm(dim=1) < 1.0
        good = arrived & one.covers(here) & other.covers(there)
        answers = other.nearest(one.embedding_at(here[good])) if bool(good.any()) else there[good]
        return (answers - there[good]).norm(dim=1).cpu().numpy()

    def _between_scans(self, model: TrainedNetwork) -> np.ndarray:
        maps: dict[str, tuple[PatientMap, dict[str, Tensor]]] = {}
        for source in self.sources:
            points = self.landmarks.get(source.name)
            if points:
                volume = source.load(self.device)
                plain = Warp.random(volume.low, volume.high, None, np.random.default_rng(0), torch.Generator())
                inverse = np.linalg.inv(source.grid_to_ras)
                index = np.array(list(points.values())) @ inverse[:3, :3].T + inverse[:3, 3]
                positions = torch.tensor(index * volume.spacing - plain.center, dtype=torch.float32, device=self.device)
                patient_map = self._embed(model, volume, plain)
                kept = {n: p for n, p, c in zip(points, positions, patient_map.covers(positions), strict=True) if c}
                maps[source.name] = patient_map, kept
        errors = []
        for name, (support, clicks) in maps.items():
            for other, (target, truth) in maps.items():
                common = [] if name == other else sorted(set(clicks) & set(truth))
                if common:
                    queries = support.embedding_at(torch.stack([clicks[n] for n in common]))
                    wrong = target.nearest(queries) - torch.stack([truth[n] for n in common])
                    errors += wrong.norm(dim=1).tolist()
        return np.array(errors)

    def _embed(self, model: TrainedNetwork, volume: Volume, warp: Warp) -> PatientMap:
        extent = warp.high - warp.low
        spacing = self.spacing * max(1.0, float((extent / self.spacing).prod() / _MOST_VOXELS) ** (1 / 3))
        shape = shape_of(max(32, np.ceil(n / STRIDE + 1) * STRIDE) for n in extent / spacing)
        places = warp.on_lattice(warp.low, spacing, shape, self.device)
        image = volume.image_at(places[None], volume.level_for(float(spacing[:2].mean()))).clamp(0.0, 1.0)
        cells = model(image, None)
        lattice = Lattice(warp.low[None], spacing[None], shape, stride_of(cells, shape))
        values = upsample(cells, shape)[0].flatten(1).T
        body = volume.is_body(places.flatten(1).T)
        voxels = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij"), -1).view(-1, 3)
        positions = voxels.to(places) * torch.from_numpy(spacing).to(places) + torch.from_numpy(warp.low).to(places)
        return PatientMap(values[body].contiguous(), positions[body], lattice, cells)
