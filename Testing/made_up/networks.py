"""Networks whose right answer is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch

from APELocalizerLib.core.model.embedding_network import EmbeddingNetwork


class LocalNetwork(torch.nn.Module):
    """Each cell's output is the mean of its own 4x4x4 voxels in every channel: tiles cannot change it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple] = []

    def forward(self, image, visible=None):
        self.seen.append(tuple(image.shape))
        return torch.nn.functional.avg_pool3d(image, 4).expand(-1, 3, -1, -1, -1)


class PlaceNetwork(torch.nn.Module):
    """Finds the body in the image and says where in its box each cell lies: one-to-one, and seen, not counted."""

    def forward(self, image, visible=None):
        cells = torch.nn.functional.avg_pool3d(image, 4)[0, 0]
        channels = []
        for axis in range(3):
            others = [a for a in range(3) if a != axis]
            weight = (cells - 0.3).clamp(min=0).sum(dim=others)
            along = torch.arange(len(weight), dtype=torch.float32)
            middle = (weight * along).sum() / weight.sum()
            width = ((weight * (along - middle) ** 2).sum() / weight.sum()).sqrt()
            shape = [-1 if a == axis else 1 for a in range(3)]
            channels.append(((along - middle) / width / 8 + 0.5).view(shape).expand(cells.shape))
        return torch.stack(channels)[None]


@dataclass(frozen=True)
class AverageConfig:
    """Settings of an `AverageNetwork`."""

    kind: ClassVar[str] = "average"

    stride: int = 4
    embedding_dim: int = 3

    @property
    def total_stride(self) -> int:
        return self.stride

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AverageConfig:
        return cls(**values)


class AverageNetwork(EmbeddingNetwork):
    """Another kind of network than the APE one: a weight and a bias per channel, of the mean of a cell's voxels."""

    def __init__(self, config: AverageConfig) -> None:
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 1.5, config.embedding_dim))
        self.bias = torch.nn.Parameter(torch.zeros(config.embedding_dim))

    def forward(self, image, visible=None):
        image = image if visible is None else image * visible[:, None]
        mean = torch.nn.functional.avg_pool3d(image, self.stride)
        return torch.sigmoid(mean * self.weight[:, None, None, None] + self.bias[:, None, None, None])
