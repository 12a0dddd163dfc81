"""Label maps as training scans: every crop is painted anew with random HU per tissue, contrast phase and texture."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

RIM, INSIDE, SPONGY = 250, 251, 252
"""Extra labels, beside TotalSegmentator's 1-117: the rim and the inside of the unlabelled body, and spongy bone."""
_BONES = ("vertebrae", "rib", "hip", "sacrum", "femur", "scapula", "clavicula", "sternum", "humerus", "skull")
_ARTERIES = ("aorta", "artery", "brachiocephalic_trunk", "atrial", "pulmonary_vein")
_VEINS = ("vena", "vein")
_HOLLOW = ("small_bowel", "colon", "stomach", "duodenum", "esophagus")
_MUSCLES = ("gluteus", "autochthon", "iliopsoas")
_ORGANS = ("liver", "spleen", "pancreas", "adrenal")


def fill_body(labels: np.ndarray, names: Mapping[int, str], spacing: tuple[float, float, float]) -> np.ndarray:
    """uint8 labels (P, L, I) with the rest of the body added: hull of all structures, widened, with a rim of fat.

    The hull is, slice by slice, all within 42 mm of a structure, less 28 mm: closed gaps, and 14 mm of skin and fat.
    """
    out = labels.astype(np.uint8)
    bones = np.isin(labels, [value for value, name in names.items() if name.startswith(_BONES)])
    out[ndimage.binary_erosion(bones)] = SPONGY
    used = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    for index in range(used[0], used[-1] + 1):
        empty = np.pad(labels[:, :, index] == 0, 40, constant_values=True)
        wide = ndimage.distance_transform_edt(empty, sampling=spacing[:2]) < 42.0
        depth = ndimage.distance_transform_edt(ndimage.binary_fill_holes(wide), sampling=spacing[:2])[40:-40, 40:-40]
        depth, free = depth - 28.0, labels[:, :, index] == 0
        out[:, :, index][free & (depth > 0)] = RIM
        out[:, :, index][free & (depth > 18.0)] = INSIDE
    return out[:, :, used[0] : used[-1] + 1]


def tissue_table(names: Mapping[int, str], rng: np.random.Generator) -> np.ndarray:
    """Random HU (256,) for every label: one scanner, one contrast phase."""
    table = np.full(256, -1000.0)
    arterial, venous, renal = rng.uniform(0, 1, 3) * (rng.random() < 0.75)
    fat, muscle = rng.uniform(-115, -80), rng.uniform(35, 70)
    gut = rng.choice([-850.0, -600.0, 20.0, 40.0, 60.0, 150.0, 350.0])
    hu_of: tuple[tuple[Callable[[str], bool], Callable[[], float]], ...] = (
        (lambda name: name.startswith("lung_"), lambda: rng.uniform(-900, -780)),
        (lambda name: name == "trachea", lambda: -970.0),
        (lambda name: name.startswith(_BONES), lambda: rng.uniform(350, 700)),
        (lambda name: any(part in name for part in _VEINS), lambda: 40 + 140 * venous),
        (lambda name: any(part in name for part in _ARTERIES), lambda: 40 + 260 * arterial),
        (lambda name: name.startswith(_HOLLOW), lambda: gut if rng.random() < 0.6 else rng.uniform(-50, 60)),
        (lambda name: name.startswith(_MUSCLES), lambda: muscle),
        (lambda name: name.startswith("kidney"), lambda: 30 + 160 * renal),
        (lambda name: name == "heart", lambda: 40 + 130 * max(arterial, venous)),
        (lambda name: name.startswith(_ORGANS), lambda: rng.uniform(40, 60) + 70 * venous),
        (lambda name: name == "urinary_bladder", lambda: rng.choice([0.0, 10.0, 200.0])),
        (lambda name: True, lambda: rng.uniform(0, 70)),
    )
    for value, name in names.items():
        table[value] = next(hu() for applies, hu in hu_of if applies(name))
    table[RIM] = fat
    table[INSIDE] = rng.uniform(fat, muscle)
    table[SPONGY] = rng.uniform(120, 300)
    return table


def paint(labels: Tensor, names: Mapping[int, str], rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """A crop of labels (1, 1, P, L, I), float, to an image in the training unit (HU + 1000) / 1300."""
    table = torch.from_numpy((tissue_table(names, rng) + 1000.0) / 1300.0).float().to(labels.device)
    image = table[labels.long()]
    size = [max(2, n // 5) for n in labels.shape[2:]]
    coarse = torch.randn(size, generator=generator, device=labels.device)[None, None]
    texture = F.interpolate(coarse, size=labels.shape[2:], mode="trilinear", align_corners=False)
    strength = torch.zeros(256)
    for value, name in names.items():
        strength[value] = 0.30 if name.startswith(_HOLLOW) else 0.05 if name.startswith("lung_") else 0.012
    strength[RIM], strength[INSIDE], strength[SPONGY] = 0.015, float(rng.uniform(0.03, 0.08)), 0.08
    image = image + texture * strength.to(labels.device)[labels.long()]
    return F.avg_pool3d(image, 3, stride=1, padding=1, count_include_pad=False) * 0.6 + image * 0.4
