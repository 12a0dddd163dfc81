"""Body box and body mask on any device: the same answers as `body.py`, by operations on whole arrays.

Stacks have axes (I, P, L). For the mask, voxels are packed 64 to a word along L, so that one operation floods 64
voxels; along every axis a run of air is flooded in as many steps as its length has binary digits.
"""

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.base.geometry import shape_of
from APELocalizerLib.core.preparation.body import BLOCK_MM, MASS_HU, box_around, center_of, mass_steps
from APELocalizerLib.core.preparation.grids import Box

WORD = 64
"""Voxels in a word."""


def body_box(
    stack: Tensor, spacing: np.ndarray, threshold: float, margins: tuple[int, int, int] = (0, 0, 0)
) -> Box | None:
    """As `body.body_box`, for a tensor."""
    block = np.ceil(BLOCK_MM / np.asarray(spacing, float)).astype(int).tolist()
    counts = [n // b for n, b in zip(stack.shape, block, strict=True)]
    if min(counts) < 1:
        return None
    whole = stack[tuple(slice(n * b) for n, b in zip(counts, block, strict=True))]
    for axis in range(3):
        whole = whole.unflatten(axis, (counts[axis], block[axis])).amin(dim=axis + 1)
    return box_around((whole >= threshold).cpu().numpy(), block, shape_of(stack.shape), margins)


def body_center(stack: Tensor) -> np.ndarray:
    """As `body.body_center`, for a tensor."""
    steps = mass_steps(shape_of(stack.shape))
    low, high = MASS_HU
    mass = stack[:: steps[0], :: steps[1], :: steps[2]].clamp(low, high).to(torch.int64) - low
    along = [mass.sum(dim=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    return center_of([line.cpu().numpy() for line in along], steps)


def body_mask(air: Tensor) -> Tensor:
    """As `body.body_mask`, for a tensor: everything but the air that is connected to the four sides."""
    length = air.shape[2]
    packed = _packed(air)
    flooded = torch.zeros_like(packed)
    flooded[:, 0], flooded[:, -1] = packed[:, 0], packed[:, -1]
    ends = torch.zeros_like(air[:1, :1])
    ends[..., 0] = ends[..., -1] = True
    flooded |= packed & _packed(ends)
    before = None
    while before is None or not torch.equal(flooded, before):
        before = flooded
        flooded = _fill_words(flooded, packed)
        for axis in (1, 0):
            flooded = _fill_axis(flooded, packed, axis)
        flooded = _grown(flooded) & packed
    return ~_unpacked(flooded, length)


def _packed(bits: Tensor) -> Tensor:
    """Bits (…, n) as words (…, ceil(n / 64)) int64, the first voxel in the lowest bit; what is missing is 0."""
    bits = torch.nn.functional.pad(bits.to(torch.uint8), (0, -bits.shape[-1] % WORD))
    shares = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=bits.device)
    octets = (bits.unflatten(-1, (-1, 8)) * shares).sum(dim=-1, dtype=torch.uint8)
    return octets.view(torch.int64)


def _unpacked(words: Tensor, length: int) -> Tensor:
    """The inverse of `_packed`; bool (…, length)."""
    shares = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=words.device)
    octets = words.contiguous().view(torch.uint8)
    return ((octets[..., None] & shares) != 0).flatten(-2)[..., :length]


def _up(words: Tensor, count: int) -> Tensor:
    """Every voxel moved by 0 < count < 64 places toward higher L, from word to word."""
    moved = words << count
    moved[..., 1:] |= _lowest(words[..., :-1] >> (WORD - count), count)
    return moved


def _down(words: Tensor, count: int) -> Tensor:
    """Every voxel moved by 0 < count < 64 places toward lower L."""
    moved = _lowest(words >> count, WORD - count)
    moved[..., :-1] |= words[..., 1:] << (WORD - count)
    return moved


def _lowest(words: Tensor, count: int) -> Tensor:
    """Only the lowest bits: a right shift of a signed number fills up with its sign."""
    return words & ((1 << count) - 1)


def _fill_words(flooded: Tensor, air: Tensor) -> Tensor:
    """Flood along L: up to 64 voxels each way."""
    for move in (_up, _down):
        way = air
        count = 1
        while count < WORD:
            flooded = flooded | way & move(flooded, count)
            way = way & move(way, count)
            count *= 2
    return flooded


def _fill_axis(flooded: Tensor, air: Tensor, axis: int) -> Tensor:
    """Flood along I or P, to the ends of every run of air."""
    size = air.shape[axis]
    for backward in (False, True):
        way, result = air, flooded.clone()
        count = 1
        while count < size:
            here, there = slice(count, None), slice(None, size - count)
            to, since = (there, here) if backward else (here, there)
            index = [(slice(None),) * axis + (part,) for part in (to, since)]
            result[index[0]] |= way[index[0]] & result[index[1]].clone()
            blocked = torch.zeros_like(way)
            blocked[index[0]] = way[index[0]] & way[index[1]]
            way = blocked
            count *= 2
        flooded = result
    return flooded


def _grown(flooded: Tensor) -> Tensor:
    """Grown by one voxel in all 26 directions."""
    flooded = flooded | _up(flooded, 1) | _down(flooded, 1)
    for axis in (1, 0):
        result, size = flooded.clone(), flooded.shape[axis]
        result.narrow(axis, 1, size - 1).bitwise_or_(flooded.narrow(axis, 0, size - 1))
        result.narrow(axis, 0, size - 1).bitwise_or_(flooded.narrow(axis, 1, size - 1))
        flooded = result
    return flooded
