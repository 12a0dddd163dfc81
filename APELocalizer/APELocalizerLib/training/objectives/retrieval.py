"""Validation by retrieval: landmarks of one patient looked up in another patient's map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from APELocalizerLib.training.data.scans import LEVEL_SPACING, TrainingScan

GRID = (4.0, 4.0, 6.0)


@dataclass
class ValidationMap:
    """Embedding (3, P, L, I) in mm at every voxel of a resampled scan, its body mask and voxel-to-RAS (4, 4)."""

    values: Tensor
    body: Tensor
    to_ras: np.ndarray
    scan: TrainingScan


def resample(scan: TrainingScan, spacing: tuple[float, float, float]) -> tuple[Tensor, Tensor, np.ndarray]:
    """Image 0..1 and body (P, L, I) at a spacing, and voxel-to-RAS; first and last voxel centers aligned."""
    extent = (np.array(scan.shape) - 1) * scan.spacing
    shape = [
        max(32, int(round((n - 1) * h / s)) + 1) for n, h, s in zip(scan.shape, scan.spacing, spacing, strict=True)
    ]
    level = int(np.argmin(np.abs(np.array(LEVEL_SPACING) - spacing[0])))
    image = F.interpolate(scan.levels[level].float(), size=shape, mode="trilinear", align_corners=True).clamp(0, 1)
    body = F.interpolate(scan.body.float(), size=shape, mode="trilinear", align_corners=True)[0, 0] > 0.5
    to_ras = scan.grid_to_ras.copy()
    to_ras[:3, :3] = scan.grid_to_ras[:3, :3] / scan.spacing * (extent / (np.array(shape) - 1))
    return image, body, to_ras


@torch.inference_mode()
def embed(
    network: torch.nn.Module, scan: TrainingScan, spacing: tuple[float, float, float], scale: Tensor, offset: Tensor
) -> ValidationMap:
    """One pass over a whole scan at a spacing; the map is given on voxels of 4 x 4 x 6 mm, whatever the spacing."""
    image, body, to_ras = resample(scan, spacing)
    output = network(image.contiguous(memory_format=torch.channels_last_3d)).float()
    values = upsample(output, image.shape[2:])
    _, body, to_ras = resample(scan, GRID)
    values = F.interpolate(values, size=body.shape, mode="trilinear", align_corners=True)[0]
    return ValidationMap(values * scale[:, None, None, None] + offset[:, None, None, None], body, to_ras, scan)


def upsample(output: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(N, 3, h, w, d) cells to (N, 3, *shape) voxels: trilinear, the remainder repeats the last."""
    fine = F.interpolate(output, scale_factor=stride_of(output, shape), mode="trilinear", align_corners=False)
    missing = [n - m for n, m in zip(shape, fine.shape[2:], strict=True)]
    return F.pad(fine, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")


def stride_of(output: Tensor, shape: tuple[int, ...]) -> int:
    """Voxels along a cell of a network's output (N, C, h, w, d) for images of `shape`, a remainder left out."""
    voxels, cells = max(zip(shape, output.shape[2:], strict=True))
    return round(voxels / cells)


def sample(source: ValidationMap, points: np.ndarray) -> np.ndarray:
    """Embedding (n, 3) at RAS points (n, 3)."""
    inverse = np.linalg.inv(source.to_ras)
    index = points @ inverse[:3, :3].T + inverse[:3, 3]
    unit = 2 * index / (np.array(source.values.shape[1:]) - 1) - 1
    grid = torch.tensor(unit[:, ::-1].copy(), dtype=torch.float32, device=source.values.device)[None, :, None, None]
    values = F.grid_sample(source.values[None], grid, padding_mode="border", align_corners=True)
    return values[0, :, :, 0, 0].T.cpu().numpy()


def fuse(*maps: ValidationMap) -> ValidationMap:
    """Mean of several maps of one scan."""
    return replace(maps[0], values=torch.stack([one_map.values for one_map in maps]).mean(0))


def nearest(target: ValidationMap, queries: np.ndarray) -> np.ndarray:
    """RAS positions (n, 3) of the body voxels nearest to queries (n, 3) in embedding space."""
    index = target.body.nonzero()
    values = target.values[:, target.body].T.contiguous()
    best = []
    for query in torch.tensor(np.asarray(queries), dtype=torch.float32, device=values.device):
        distance = ((values - query) ** 2).sum(1)
        top = distance.topk(min(60, len(distance)), largest=False)
        weight = torch.softmax(-(top.values - top.values[0]) / 18.0, 0)
        near = index[top.indices].float()
        close = ((near - near[0]).abs().amax(1) <= 4).float() * weight
        best.append(((near * close[:, None]).sum(0) / close.sum()).cpu().numpy())
    return np.array(best).reshape(-1, 3) @ target.to_ras[:3, :3].T + target.to_ras[:3, 3]


def retrieval_errors(targets: list[ValidationMap], supports: list[ValidationMap]) -> dict[str, np.ndarray]:
    """Errors in mm: one shot (each support alone), several shots (median of their embeddings), and canonical
    (the average patient's own coordinate as the query), over all landmarks of all targets."""
    one, several, canonical, names = [], [], [], []
    clicks = {
        support.scan.name: dict(
            zip(support.scan.landmark_names, sample(support, support.scan.landmarks.numpy()), strict=True)
        )
        for support in supports
        if len(support.scan.landmark_names)
    }
    for target in targets:
        others = {f.scan.name for f in supports if f.scan.patient != target.scan.patient}
        truth = target.scan.landmarks.numpy()
        if len(target.scan.goals):
            canonical += list(np.linalg.norm(nearest(target, target.scan.goals.numpy()) - truth, axis=1))
        for position, name in enumerate(target.scan.landmark_names):
            shots = [clicks[case][name] for case in sorted(others & set(clicks)) if name in clicks[case]]
            if not shots:
                continue
            answers = nearest(target, np.array([*shots, np.median(shots, axis=0)]))
            errors = np.linalg.norm(answers - truth[position], axis=1)
            one += list(errors[:-1])
            several.append(errors[-1])
            names.append(f"{target.scan.name}:{name}")
    return {
        "one": np.array(one),
        "several": np.array(several),
        "canonical": np.array(canonical),
        "names": np.array(names),
    }
