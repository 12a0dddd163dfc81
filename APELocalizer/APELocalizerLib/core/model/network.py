"""The anatomical positional embedding network: a 3-D ConvNeXt feature pyramid with three outputs per cell.

The architecture follows the model released with "Anatomical Positional Embeddings" (arXiv 2409.10291) and is
implemented anew from its published description; `NetworkConfig.published()` has the same parameter names, order
and shapes as the released weights, so that they can be loaded. `NetworkConfig.small()` is the same network with
fewer channels, for the weights that come with the extension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from APELocalizerLib.core.model.embedding_network import EmbeddingNetwork
from APELocalizerLib.core.model.network_config import NetworkConfig

NORM_EPS = 1e-6
"""Of every layer norm."""


class LayerNorm3d(nn.LayerNorm):
    """LayerNorm over the channel axis of (N, C, H, W, D)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Stem(nn.Module):
    """Patch embedding whose last channel tells whether a cell is visible; hidden cells become a learned token."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.channels[0] - 1 if config.mask_token else config.channels[0]
        self.stride = config.stem_stride
        self.mask_token: nn.Parameter | None = None
        if config.mask_token:
            self.mask_token = nn.Parameter(torch.empty(width))
            nn.init.trunc_normal_(self.mask_token)
        self.conv = nn.Conv3d(config.in_channels, width, config.stem_stride, config.stem_stride)
        self.norm = LayerNorm3d(width)

    def forward(self, image: Tensor, visible: Tensor | None) -> Tensor:
        if self.mask_token is None:
            return self.norm(self.conv(image if visible is None else image * visible[:, None]))
        if visible is None:
            x = self.norm(self.conv(image))
            return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        visible = visible[:, None].to(image.dtype)
        x = self.conv(image * visible)
        pooled = F.max_pool3d(visible, self.stride, self.stride).to(x.dtype)
        x = x * pooled + self.mask_token.view(1, -1, 1, 1, 1) * (1 - pooled)
        x = self.norm(x)
        return torch.cat([x, pooled.to(x.dtype)], dim=1)


class LayerScale(nn.Module):
    """Multiplies each channel by a learned factor."""

    def __init__(self, channels: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels, 1, 1, 1), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def _pointwise(x: Tensor, convolution: nn.Conv3d) -> Tensor:
    """A 1x1x1 convolution of (N, H, W, D, C) as a matrix product, several times faster on CPU than as a convolution."""
    return F.linear(x, convolution.weight.flatten(1), convolution.bias)


class PointwiseConv3d(nn.Conv3d):
    """A 1x1x1 convolution over (N, C, H, W, D), computed as a matrix product."""

    def __init__(self, channels: int, outputs: int, bias: bool = True) -> None:
        super().__init__(channels, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return _pointwise(x.movedim(1, -1), self).movedim(-1, 1)


def _depthwise(x: Tensor, convolution: nn.Conv3d) -> Tensor:
    """A depthwise convolution of (N, C, H, W, D), right in bfloat16 too.

    On CPUs PyTorch (2.13 at least) leaves most of the weights' gradient unset if the images are bfloat16, in
    channels-last order, and have two cells along their first axis; such small images are computed in float32.
    """
    if x.device.type == "cpu" and x.shape[2] == 2:
        with torch.autocast("cpu", enabled=False):
            return convolution(x.to(convolution.weight.dtype))
    return convolution(x)


class ConvNeXtBlock(nn.Module):
    """Depthwise 3x3x3 convolution, channel norm, two pointwise layers with GELU, layer scale, residual sum."""

    def __init__(self, channels: int, config: NetworkConfig) -> None:
        super().__init__()
        hidden = int(channels * config.hidden_factor)
        self.conv_1 = nn.Conv3d(channels, channels, 3, padding=1, groups=channels)
        self.norm = LayerNorm3d(channels)
        self.conv_2 = PointwiseConv3d(channels, hidden)
        self.conv_3 = PointwiseConv3d(hidden, channels)
        self.layerscale = LayerScale(channels, config.layer_scale_init)

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(
            _depthwise(x, self.conv_1).movedim(1, -1),
            self.norm.normalized_shape,
            self.norm.weight,
            self.norm.bias,
            NORM_EPS,
        )
        y = _pointwise(F.gelu(_pointwise(y, self.conv_2)), self.conv_3)
        return x + self.layerscale(y.movedim(-1, 1))


class Stage(nn.Module):
    """A chain of ConvNeXt blocks of one width."""

    def __init__(self, channels: int, depth: int, config: NetworkConfig) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ConvNeXtBlock(channels, config) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


def _fit(x: Tensor, reference: Tensor) -> Tensor:
    """Crop `x` to the spatial size of `reference`, repeating its last voxel where it is too short."""
    size = reference.shape[2:]
    x = x[:, :, : size[0], : size[1], : size[2]]
    missing = [wanted - got for wanted, got in zip(size, x.shape[2:], strict=True)]
    if any(missing):
        x = F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")
    return x


class FeaturePyramid(nn.Module):
    """U-shaped ConvNeXt network; returns normalized features of every level, finest first."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths, levels = config.channels, len(config.channels) - 1
        self.stem = Stem(config)
        self.left_stages = nn.ModuleList(Stage(widths[i], config.depths[i][0], config) for i in range(levels))
        self.middle_norms = nn.ModuleList(LayerNorm3d(widths[i]) for i in range(levels))
        self.down_blocks = nn.ModuleList(nn.Conv3d(widths[i], widths[i + 1], 2, 2) for i in range(levels))
        self.up_blocks = nn.ModuleList(
            nn.Sequential(PointwiseConv3d(widths[i + 1], widths[i]), nn.Upsample(scale_factor=2, mode="trilinear"))
            for i in range(levels)
        )
        self.skip_connections = nn.ModuleList(PointwiseConv3d(widths[i], widths[i]) for i in range(levels))
        self.right_stages = nn.ModuleList(Stage(widths[i], config.depths[i][1], config) for i in range(levels))
        self.final_norms = nn.ModuleList(LayerNorm3d(width) for width in widths)
        self.bottom_stage = Stage(widths[-1], config.depths[-1], config)

    def forward(self, image: Tensor, visible: Tensor | None) -> list[Tensor]:
        x = self.stem(image, visible)
        skips = []
        for stage, norm, down in zip(self.left_stages, self.middle_norms, self.down_blocks, strict=True):
            x = norm(stage(x))
            skips.append(x)
            x = down(x)
        x = self.bottom_stage(x)
        pyramid = [F.gelu(self.final_norms[-1](x))]
        for level in reversed(range(len(skips))):
            x = _fit(self.up_blocks[level](x), skips[level]) + self.skip_connections[level](skips[level])
            x = self.right_stages[level](x)
            pyramid.insert(0, F.gelu(self.final_norms[level](x)))
        return pyramid


class PyramidHead(nn.Module):
    """One linear layer per level, summed from coarse to fine."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            PointwiseConv3d(width, config.embedding_dim, bias=level == 0) for level, width in enumerate(config.channels)
        )
        bound = (1.0 / sum(config.channels)) ** 0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        x = self.convs[-1](pyramid[-1])
        for level in reversed(range(len(pyramid) - 1)):
            finer = self.convs[level](pyramid[level])
            x = _fit(F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False), finer) + finer
        return x


class APENetwork(EmbeddingNetwork):
    """CT image to three coordinates in (0, 1) for every cell of `config.stem_stride` voxels per axis."""

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.fpn = FeaturePyramid(config)
        self.head = PyramidHead(config)

    @property
    def hidden_token(self) -> nn.Parameter | None:
        """The stem's token for hidden cells."""
        return self.fpn.stem.mask_token

    def forward(self, image: Tensor, visible: Tensor | None = None) -> Tensor:
        """Embed a batch.

        image: (N, in_channels, H, W, D), axes toward posterior, left, inferior, values 0..1; every size >= 32
        (with the usual four levels of stride 4). visible: (N, H, W, D), 1 where the image may be seen, or None.
        Returns (N, 3, H//4, W//4, D//4) in (0, 1); cell i covers the voxels 4i to 4i+3, so its center is at
        voxel 4i + 1.5, and the remainder voxels at the end of an axis are ignored.
        Raises ValueError for an input that is too small or has the wrong number of axes.
        """
        self.check_size(self.config, image)
        return torch.sigmoid(self.head(self.fpn(image, visible)))

    def forward_in_bfloat16(self, image: Tensor, visible: Tensor | None = None) -> Tensor:
        """The pyramid in bfloat16; the last layer and the sigmoid, whose steps would be millimeters, in float32."""
        with torch.autocast(image.device.type, torch.bfloat16):
            pyramid = self.fpn(image, visible)
        return torch.sigmoid(self.head([level.float() for level in pyramid]))

    @staticmethod
    def check_size(config: NetworkConfig, image: Tensor) -> None:
        """Raise ValueError for an input that is too small or has the wrong number of axes."""
        if image.ndim != 5:
            raise ValueError(f"The network expects images of shape (N, C, H, W, D), not {tuple(image.shape)}.")
        smallest = config.total_stride
        if min(image.shape[2:]) < smallest:
            raise ValueError(
                f"The image is too small for this network: {tuple(image.shape[2:])} voxels, "
                f"at least {smallest} per axis are needed."
            )
