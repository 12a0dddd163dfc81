"""What turns the network's output, three numbers in (0, 1), into the embedding that the losses compare.

Every head is affine per channel, so that a finished network is used as offset + scale * output, whatever head it was
trained with.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from APELocalizerLib.core.model.embedding_network import EmbeddingNetwork


class Head(nn.Module):
    """Base of the heads: keeps the average size in mm of the embedding's unit; `seen` is filled by `forward`.

    A training step runs several batches, perhaps in several threads and processes; running averages are therefore
    not updated by `forward` but once per step by `update`, from the mean of all `seen`.
    """

    unit_mm: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unit_mm", torch.tensor(0.0))

    def seen(self) -> list[float]:
        """What the last batch adds to the running averages."""
        return []

    def update(self, unit_mm: float, seen: list[float], momentum: float = 0.02) -> None:
        """Take the mean over a step into the running averages."""
        known = bool(self.unit_mm > 0)
        self.unit_mm.lerp_(torch.tensor(unit_mm).to(self.unit_mm), momentum if known else 1.0)

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        """(3,) and (3,): the embedding is offset + scale * output, in the head's unit."""
        raise NotImplementedError

    def millimeters(self) -> tuple[Tensor, Tensor]:
        """(3,) and (3,): scale and offset that make a network's output the embedding, in about millimeters."""
        scale, offset = self.scale_and_offset()
        unit = self.unit_mm if bool(self.unit_mm > 0) else torch.ones_like(self.unit_mm)
        return (scale * unit).cpu(), (offset * unit).cpu()


class ScaledHead(Head):
    """A learned positive scale per axis times the output, as released. It begins with four standard deviations, about
    what a uniform position along an axis spans (sqrt 12)."""

    def __init__(self, initial: float = 4.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), initial))

    def forward(self, output: Tensor) -> Tensor:
        return output * _channels(self.scale)

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        return self.scale.detach(), torch.zeros_like(self.scale)


class NormalizedHead(Head):
    """Zero mean and unit variance per channel over the batch: a batch normalization without parameters (paper)."""

    mean: Tensor
    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3,), 0.5))
        self.register_buffer("variance", torch.ones(3))
        self._seen: list[float] = []

    def forward(self, output: Tensor) -> Tensor:
        if not self.training:
            return (output - _channels(self.mean)) / _channels(self.variance + 1e-8).sqrt()
        variance, mean = torch.var_mean(output, dim=(0, 2, 3, 4), correction=0)
        self._seen = [*mean.tolist(), *variance.tolist()]
        return (output - _channels(mean)) / _channels(variance + 1e-8).sqrt()

    def seen(self) -> list[float]:
        return self._seen

    def update(self, unit_mm: float, seen: list[float], momentum: float = 0.02) -> None:
        first = not bool(self.unit_mm > 0)
        super().update(unit_mm, seen, momentum)
        for buffer, values in ((self.mean, seen[:3]), (self.variance, seen[3:])):
            buffer.lerp_(torch.tensor(values).to(buffer), 1.0 if first else momentum)

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        scale = (self.variance + 1e-8).rsqrt()
        return scale, -self.mean * scale


class FixedHead(Head):
    """Given scale and offset (3,), as anchored training has them."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Sequence[float], offset: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(tuple(scale)))
        self.register_buffer("offset", torch.tensor(tuple(offset)))

    def forward(self, output: Tensor) -> Tensor:
        return output * _channels(self.scale) + _channels(self.offset)

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        return self.scale, self.offset


class TrainedNetwork(nn.Module):
    """A network under training and its head, if it has one: images to embeddings, always float32.

    With "bf16" the network computes in bfloat16 where that is safe.
    """

    def __init__(self, network: EmbeddingNetwork, head: Head | None = None, precision: str = "fp32") -> None:
        super().__init__()
        self.network, self.head, self.precision = network, head, precision

    def forward(self, image: Tensor, visible: Tensor | None) -> Tensor:
        """Embedding (N, 3, p, l, i) of images (N, 1, P, L, I): in the head's unit, or from 0 to 1 without a head."""
        image = image.contiguous(memory_format=torch.channels_last_3d)
        if self.precision == "fp32":
            output = self.network(image, visible)
        else:
            output = self.network.forward_in_bfloat16(image, visible)
        return output if self.head is None else self.head(output)


def _channels(values: Tensor) -> Tensor:
    return values[:, None, None, None]
