"""What users would otherwise run: the published preparation and network, written with the usual building blocks.

Preparation: body box, `scipy.ndimage.zoom`, `skimage.exposure.equalize_adapthist`. Network: the same layers as
`APENetwork`, under the same names, as plain `nn.Conv3d` in PyTorch's default memory format; half-overlapping tiles.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from APELocalizerLib.core.base.geometry import spacing_of
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.orientation import to_canonical
from APELocalizerLib.core.scan.scan import Scan

TILE = (96, 96, 64)
Spacing = tuple[float, float, float]


def random_model(seed: int = 0) -> Model:
    """The published network and preparation with random weights: as fast as the published ones, which are no part of
    this repository."""
    torch.manual_seed(seed)
    config = NetworkConfig(layer_scale_init=0.1)  # so that deep layers show in the output
    return Model("published network, random weights", config, PreparationConfig(), APENetwork(config).state_dict())


# Preparation ----------------------------------------------------------------------------------------------------------


def body_cropped(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """The scan in (P, L, I) axes, cropped to the body box as published; float32, and its spacing (3,) in mm."""
    from skimage.measure import block_reduce

    image, grid = to_canonical(scan)
    spacing = spacing_of(grid)
    block = tuple(np.ceil(5 / spacing).astype(int))
    box = bounding_box(block_reduce(image >= -500, block, np.min))
    cropped = image[tuple(slice(s.start * b, s.stop * b) for s, b in zip(box, block, strict=True))]
    return cropped.astype(np.float32), spacing


def prepared(scan: Scan, spacing: Spacing | None = None) -> np.ndarray:
    """Image (P, L, I) in 0..1 as the published network's training data: zoom to 1 x 1 x 1.5 mm, body mask,
    equalization; then a second zoom to `spacing` mm if given."""
    from scipy import ndimage
    from skimage.exposure import equalize_adapthist
    from skimage.segmentation import flood

    image, own = body_cropped(scan)
    image = ndimage.zoom(image, own / (1.0, 1.0, 1.5), order=1, mode="constant", cval=image.min())
    image = image[bounding_box(image > image.min())]
    flood(np.pad(image < -500, ((1, 1), (1, 1), (0, 0)), constant_values=True), (0, 0, 0))
    image = np.clip((image + np.float32(1000)) / np.float32(1300), 0, 1)
    image = equalize_adapthist(image, clip_limit=0.05)
    return image if spacing is None else ndimage.zoom(image, np.array((1.0, 1.0, 1.5)) / spacing, order=1)


def windowed(scan: Scan, spacing: Spacing) -> np.ndarray:
    """Image (P, L, I) in 0..1 without equalization: body box, zoom to `spacing` mm, window -1000..300 HU."""
    from scipy import ndimage

    image, own = body_cropped(scan)
    image = ndimage.zoom(image, own / spacing, order=1)
    return np.clip((image + np.float32(1000)) / np.float32(1300), 0, 1)


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Slices around the True voxels."""
    axes = range(mask.ndim)
    ends = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis)))[[0, -1]] + [0, 1] for axis in axes]
    return tuple(slice(*end) for end in ends)


# Network --------------------------------------------------------------------------------------------------------------


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W, D)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3).contiguous()


class Scale(nn.Module):
    """A factor per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """ConvNeXt block of convolutions."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv3d(channels, channels, 3, padding=1, groups=channels)
        self.norm = ChannelNorm(channels)
        self.conv_2 = nn.Conv3d(channels, hidden, 1)
        self.conv_3 = nn.Conv3d(hidden, channels, 1)
        self.layerscale = Scale(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layerscale(self.conv_3(F.gelu(self.conv_2(self.norm(self.conv_1(x))))))


class Blocks(nn.Module):
    """Blocks in a row, under the name that the published weights give them."""

    def __init__(self, channels: int, count: int, factor: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(channels, int(channels * factor)) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class Stem(nn.Module):
    """Strided convolution, norm, and a last channel of ones."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.channels[0] - 1
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.conv = nn.Conv3d(config.in_channels, width, config.stem_stride, config.stem_stride)
        self.norm = ChannelNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return torch.cat([x, torch.ones_like(x[:, :1])], 1)


class Pyramid(nn.Module):
    """The U-shaped part."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths, depths, factor = config.channels, config.depths, config.hidden_factor
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.stem = Stem(config)
        self.left_stages = nn.ModuleList(Blocks(w, d[0], factor) for w, d in zip(widths[:-1], depths, strict=False))
        self.middle_norms = nn.ModuleList(ChannelNorm(w) for w in widths[:-1])
        self.down_blocks = nn.ModuleList(nn.Conv3d(w, deeper, 2, 2) for w, deeper in pairs)
        up = (nn.Sequential(nn.Conv3d(deeper, w, 1), nn.Upsample(None, 2, "trilinear")) for w, deeper in pairs)
        self.up_blocks = nn.ModuleList(up)
        self.skip_connections = nn.ModuleList(nn.Conv3d(w, w, 1) for w in widths[:-1])
        self.right_stages = nn.ModuleList(Blocks(w, d[1], factor) for w, d in zip(widths[:-1], depths, strict=False))
        self.final_norms = nn.ModuleList(ChannelNorm(w) for w in widths)
        self.bottom_stage = Blocks(widths[-1], depths[-1], factor)

    def forward(self, x: Tensor) -> list[Tensor]:
        x, skips = self.stem(x), []
        for stage, norm, down in zip(self.left_stages, self.middle_norms, self.down_blocks, strict=True):
            skips.append(norm(stage(x)))
            x = down(skips[-1])
        x = self.bottom_stage(x)
        levels = [F.gelu(self.final_norms[-1](x))]
        for i in reversed(range(len(skips))):
            x = fitted(self.up_blocks[i](x), skips[i]) + self.skip_connections[i](skips[i])
            x = self.right_stages[i](x)
            levels.insert(0, F.gelu(self.final_norms[i](x)))
        return levels


class PlainNetwork(nn.Module):
    """The published network of plain convolutions; takes the state of an `APENetwork` of the same configuration."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.fpn = Pyramid(config)
        self.head = nn.Module()
        self.head.convs = nn.ModuleList(
            nn.Conv3d(w, config.embedding_dim, 1, bias=i == 0) for i, w in enumerate(config.channels)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, 1, H, W, D) to (N, 3, H//4, W//4, D//4) in 0..1."""
        levels = self.fpn(image)
        x = self.head.convs[-1](levels[-1])
        for i in reversed(range(len(levels) - 1)):
            finer = self.head.convs[i](levels[i])
            x = fitted(F.interpolate(x, scale_factor=2, mode="trilinear"), finer) + finer
        return torch.sigmoid(x)


def fitted(x: Tensor, like: Tensor) -> Tensor:
    """Cropped, or continued by the last voxel, to the size of `like`."""
    h, w, d = like.shape[2:]
    x = x[:, :, :h, :w, :d]
    return F.pad(x, (0, d - x.shape[4], 0, w - x.shape[3], 0, h - x.shape[2]), mode="replicate")


def plain_network(model: Model) -> PlainNetwork:
    """The model's network of plain convolutions."""
    network = PlainNetwork(model.network)
    network.load_state_dict({key: value.float() for key, value in model.state.items()})
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def embedded(network: PlainNetwork, image: np.ndarray, tiled: bool = True) -> np.ndarray:
    """Output (3, a, b, c) for an image: half-overlapping tiles of 96 x 96 x 64 one after another, averaged; or at once.

    An image smaller than a tile is continued by its last voxel.
    """
    volume = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    smallest = TILE if tiled else (32, 32, 32)
    missing = [max(0, least - n) for least, n in zip(smallest, volume.shape[2:], strict=True)]
    volume = F.pad(volume, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")
    if not tiled:
        return network(volume)[0].numpy()
    cells = [n // 4 for n in volume.shape[2:]]
    total, count = np.zeros((3, *cells), np.float32), np.zeros(cells, np.float32)
    starts = [[*range(0, n * 4 - t, t // 2), n * 4 - t] for n, t in zip(cells, TILE, strict=True)]
    for i, j, k in ((i, j, k) for i in starts[0] for j in starts[1] for k in starts[2]):
        tile = volume[:, :, i : i + TILE[0], j : j + TILE[1], k : k + TILE[2]].contiguous()
        where = tuple(slice(s // 4, s // 4 + t // 4) for s, t in zip((i, j, k), TILE, strict=True))
        total[(slice(None), *where)] += network(tile)[0].numpy()
        count[where] += 1
    return total / count


def flops(config: NetworkConfig, size: tuple[int, int, int] = TILE) -> int:
    """Floating-point operations of all convolutions for one image, two per multiplication, from the layers' shapes."""
    total = 0

    def add(layer: nn.Conv3d, _inputs: tuple, output: Tensor) -> None:
        nonlocal total
        total += 2 * output.numel() * layer.weight[0].numel()

    with torch.device("meta"):
        network = PlainNetwork(config)
        for layer in network.modules():
            if isinstance(layer, nn.Conv3d):
                layer.register_forward_hook(add)
        network(torch.empty(1, config.in_channels, *size))
    return total
