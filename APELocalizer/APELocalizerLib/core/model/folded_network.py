"""The embedding network arranged for inference on a CPU: the same numbers, sooner.

`network.APENetwork` says what is computed; `FoldedNetwork` takes its weights and computes the same in another order:

- Tensors are rows of channels (one row per cell), so that norms, pointwise layers and strided convolutions are plain
  matrix products without a change of layout.
- A norm's affine part, and a layer scale, are folded into the matrix that follows or precedes them (in float64, once).
- A block's two pointwise layers run on a few thousand rows at a time: its hidden layer, four times as wide as the
  block, stays in the processor's cache and is never written to memory as a whole.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from APELocalizerLib.core.base.device import multiplies_bfloat16
from APELocalizerLib.core.base.geometry import Shape, shape_of
from APELocalizerLib.core.model.network import NORM_EPS, APENetwork, ConvNeXtBlock, LayerNorm3d

HIDDEN_NUMBERS = 2**19
"""Numbers of a block's hidden layer per thread that are computed at a time: 2 MB in float32, which caches hold."""

SHORT = 128
"""Channels up to which a norm by matrix products is the faster one."""


WIDE = 64
"""Channels of a network's first level from which on bfloat16 is the faster on a CPU."""


def folded(network: APENetwork, half: bool | None = None) -> "FoldedNetwork":
    """The network for CPU inference. `half` None means bfloat16 for networks as wide as the published one, on
    processors made for it."""
    if half is None:
        half = network.config.channels[0] >= WIDE and multiplies_bfloat16()
    return FoldedNetwork(network, half)


class FoldedNetwork:
    """An `APENetwork` for CPU inference. Later changes of the network's weights are not followed.

    `half` computes the matrix products of the blocks in bfloat16 and everything else, the sums over blocks included, in
    float32: faster on processors with instructions for it (AVX-512 BF16, AMX), with outputs that differ by about 1e-3.
    """

    def __init__(self, network: APENetwork, half: bool = False) -> None:
        self.config = network.config
        fpn = network.fpn
        kind = torch.bfloat16 if half else torch.float32
        self._stem = fpn.stem
        self._stem_weight = fpn.stem.conv.weight.contiguous(memory_format=torch.channels_last_3d)
        self._left = [_blocks(stage, kind) for stage in fpn.left_stages]
        self._right = [_blocks(stage, kind) for stage in fpn.right_stages]
        self._bottom = _blocks(fpn.bottom_stage, kind)
        norms = _norms(fpn.middle_norms)
        self._down = [_after_norm(*pair) for pair in zip(norms, _convolutions(fpn.down_blocks), strict=True)]
        self._skip = [_after_norm(*pair) for pair in zip(norms, _convolutions(fpn.skip_connections), strict=True)]
        self._up = [(layer.weight.flatten(1), layer.bias) for layer in _convolutions(fpn.up_blocks)]
        self._final_norms = _norms(fpn.final_norms)
        self._head = [(layer.weight.flatten(1), layer.bias) for layer in _convolutions(network.head)]

    @torch.inference_mode()
    def __call__(self, image: Tensor, visible: Tensor | None = None) -> Tensor:
        """As `APENetwork.forward` (float32, in evaluation mode), apart from rounding. Raises ValueError as it does."""
        APENetwork.check_size(self.config, image)
        x, grid = self._embedded_patches(image, visible)
        skips: list[tuple[Tensor, Shape]] = []
        for blocks, skip, down in zip(self._left, self._skip, self._down, strict=True):
            for block in blocks:
                block.add_to(x, grid)
            x = _normalized(x)
            skips.append((F.linear(x, *skip), grid))
            patches, grid = _patches(x, grid)
            x = F.linear(patches, *down)
        for block in self._bottom:
            block.add_to(x, grid)
        output, output_grid = self._told(x, -1), grid
        for level in reversed(range(len(skips))):
            finer, finer_grid = skips[level]
            x = _add_upsampled(finer, finer_grid, F.linear(x, *self._up[level]), grid)
            grid = finer_grid
            for block in self._right[level]:
                block.add_to(x, grid)
            output = _add_upsampled(self._told(x, level), grid, output, output_grid)
            output_grid = grid
        return _as_volume(output.sigmoid_(), grid)

    def _embedded_patches(self, image: Tensor, visible: Tensor | None) -> tuple[Tensor, Shape]:
        """The stem: rows (n * h * w * d, channels) and the grid (h, w, d)."""
        stem, stride = self._stem, self.config.stem_stride
        if visible is not None:
            visible = visible[:, None].to(image.dtype)
            image = image * visible
        image = image.contiguous(memory_format=torch.channels_last_3d)
        volume = F.conv3d(image, self._stem_weight, stem.conv.bias, stride=stride)
        x, grid = _as_rows(volume), shape_of(volume.shape[2:])
        if stem.mask_token is None:
            return _normed(x, stem.norm), grid
        rows = torch.ones(len(x), x.shape[1] + 1)
        if visible is not None:
            seen = _as_rows(F.max_pool3d(visible, stride, stride))
            x = x * seen + stem.mask_token * (1 - seen)
            rows[:, -1:] = seen
        rows[:, :-1] = _normed(x, stem.norm)
        return rows, grid

    def _told(self, x: Tensor, level: int) -> Tensor:
        """What one level of the pyramid says: rows of `config.embedding_dim`, before the sum over levels."""
        output = torch.empty(len(x), self.config.embedding_dim)
        for rows in _row_chunks(len(x), x.shape[1]):
            output[rows] = F.linear(F.gelu(_normed(x[rows], self._final_norms[level])), *self._head[level])
        return output


@dataclass(frozen=True, eq=False)
class _Block:
    """A ConvNeXt block: depthwise convolution, norm, up @ , GELU, @ down, with norm and layer scale folded in."""

    depthwise: Tensor
    depthwise_bias: Tensor | None
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor

    @classmethod
    def of(cls, block: ConvNeXtBlock, kind: torch.dtype) -> "_Block":
        up, up_bias = _after_norm(block.norm, block.conv_2)
        gamma = block.layerscale.gamma.flatten().double()
        down = gamma[:, None] * block.conv_3.weight.flatten(1).double()
        down_bias = (gamma * _bias(block.conv_3).double()).float()
        depthwise = block.conv_1.weight.contiguous(memory_format=torch.channels_last_3d)
        return cls(depthwise, block.conv_1.bias, up.to(kind).t(), up_bias.to(kind), down.to(kind).t(), down_bias)

    def add_to(self, x: Tensor, grid: Shape) -> None:
        """Add the block's output to its input: rows x (cells, channels) of a grid, in place."""
        y = _as_rows(F.conv3d(_as_volume(x, grid), self.depthwise, self.depthwise_bias, padding=1, groups=x.shape[1]))
        chunks = _row_chunks(len(x), self.up.shape[1])
        space = torch.empty(chunks[0].stop, self.up.shape[1], dtype=self.up.dtype)
        for rows in chunks:
            part, target = _normalized(y[rows]), x[rows]
            hidden = space[: len(part)]
            torch.addmm(self.up_bias, part.to(self.up.dtype), self.up, out=hidden)
            torch.ops.aten.gelu_(hidden)
            target.add_(self.down_bias)
            if hidden.dtype == target.dtype:
                target.addmm_(hidden, self.down)
            else:
                target.add_(hidden @ self.down)


def _blocks(stage: nn.Module, kind: torch.dtype) -> list[_Block]:
    return [_Block.of(module, kind) for module in stage.modules() if isinstance(module, ConvNeXtBlock)]


def _norms(modules: nn.ModuleList) -> list[LayerNorm3d]:
    return [module for module in modules if isinstance(module, LayerNorm3d)]


def _convolutions(modules: nn.Module) -> list[nn.Conv3d]:
    """The convolutions in the order of the network."""
    return [module for module in modules.modules() if isinstance(module, nn.Conv3d)]


def _bias(convolution: nn.Conv3d) -> Tensor:
    return torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias


def _row_chunks(count: int, width: int) -> list[slice]:
    """Slices of rows such that `width` numbers per row stay near `HIDDEN_NUMBERS`; the first is the longest."""
    step = min(count, max(64, HIDDEN_NUMBERS * torch.get_num_threads() // width))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _normalized(x: Tensor) -> Tensor:
    """Rows with mean 0 and variance 1. For short rows, sums as matrix products beat `F.layer_norm` threefold."""
    if x.shape[1] > SHORT:
        return F.layer_norm(x, x.shape[1:], eps=NORM_EPS)
    mean_of = torch.full((x.shape[1], 1), 1.0 / x.shape[1])
    x = x - x @ mean_of
    return x.mul_(((x * x) @ mean_of).add_(NORM_EPS).rsqrt_())


def _normed(x: Tensor, norm: LayerNorm3d) -> Tensor:
    return _normalized(x).mul_(norm.weight).add_(norm.bias)


def _after_norm(norm: LayerNorm3d, convolution: nn.Conv3d) -> tuple[Tensor, Tensor]:
    """Matrix (outputs, voxels of the kernel * channels) and bias of a convolution whose kernels do not overlap, with
    the affine part of the norm before it."""
    weight = convolution.weight.double().permute(0, 2, 3, 4, 1)
    bias = _bias(convolution).double() + (weight @ norm.bias.double()).sum(dim=(1, 2, 3))
    return (weight * norm.weight.double()).flatten(1).float().contiguous(), bias.float()


def _patches(x: Tensor, grid: Shape) -> tuple[Tensor, Shape]:
    """Rows that hold 2 x 2 x 2 neighboring rows of x each, and their grid; an odd last cell of an axis is left out."""
    a, b, c = (n // 2 for n in grid)
    volume = x.view(-1, *grid, x.shape[1])[:, : 2 * a, : 2 * b, : 2 * c]
    parts = volume.reshape(-1, a, 2, b, 2, c, 2, x.shape[1]).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return parts.reshape(-1, 8 * x.shape[1]), (a, b, c)


def _as_volume(x: Tensor, grid: Shape) -> Tensor:
    """Rows as volumes (n, channels, h, w, d), channels last in memory."""
    return x.view(-1, *grid, x.shape[1]).permute(0, 4, 1, 2, 3)


def _as_rows(volume: Tensor) -> Tensor:
    """The inverse of `_as_volume`; copies where channels are not last in memory."""
    return volume.permute(0, 2, 3, 4, 1).reshape(-1, volume.shape[1])


def _add_upsampled(target: Tensor, finer: Shape, x: Tensor, grid: Shape) -> Tensor:
    """Add rows x on a grid, doubled by trilinear interpolation, to the rows of a finer grid, in place.

    Where the finer grid has one cell more, the last interpolated cell is repeated.
    """
    volume = F.interpolate(_as_volume(x, grid), scale_factor=2, mode="trilinear", align_corners=False)
    for axis, wanted in enumerate(finer, 2):
        missing = wanted - volume.shape[axis]
        if missing > 0:
            volume = torch.cat([volume, volume.narrow(axis, volume.shape[axis] - 1, 1)], dim=axis)
        elif missing < 0:
            volume = volume.narrow(axis, 0, wanted)
    return target.add_(_as_rows(volume))
