"""What all networks have in common: an image goes in, and an embedding of every cell comes out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from APELocalizerLib.core.model.network_config import NetworkSettings


class EmbeddingNetwork(nn.Module):
    """Base of the networks. A kind of network computes `forward`, and is entered in `networks.KINDS`."""

    def __init__(self, config: NetworkSettings) -> None:
        super().__init__()
        self.config = config

    @property
    def embedding_dim(self) -> int:
        """Channels of the output."""
        return self.config.embedding_dim

    @property
    def stride(self) -> int:
        """Voxels per cell of the output, along each axis."""
        return self.config.stride

    @property
    def hidden_token(self) -> nn.Parameter | None:
        """What is learned to stand for hidden cells, if anything is."""
        return None

    def forward(self, image: Tensor, visible: Tensor | None = None) -> Tensor:
        """Embed a batch.

        image: (N, 1, H, W, D), axes toward posterior, left, inferior, values 0..1; every size is at least
        `config.total_stride`. visible: (N, H, W, D), 1 where the image may be seen, or None.
        Returns (N, embedding_dim, H // stride, W // stride, D // stride), about 0..1; cell i covers the voxels
        stride * i to stride * i + stride - 1, and the remainder at the end of an axis is ignored.
        """
        raise NotImplementedError

    def forward_in_bfloat16(self, image: Tensor, visible: Tensor | None = None) -> Tensor:
        """As `forward`, in bfloat16 where that is safe; the output is float32. For training."""
        with torch.autocast(image.device.type, torch.bfloat16):
            return self(image, visible).float()

    def to(self, *args: Any, **kwargs: Any) -> EmbeddingNetwork:
        """As `nn.Module.to`; a memory format applies to convolutions alone (other parameters may have four axes)."""
        memory_format = kwargs.pop("memory_format", None)
        if args or kwargs:
            super().to(*args, **kwargs)
        if memory_format is not None:
            for parameter in self.parameters():
                if parameter.ndim == 5:
                    parameter.data = parameter.data.to(memory_format=memory_format)
        return self
