"""Scans of any size made from a real CT: resampled, and repeated mirrored along the body axis.

The sample CTs in Resources/SampleData are small; a folder of larger ones can be named in the environment variable
BENCH_DATA, and the one with the most voxels is then taken. The whole cross-section is stretched to the wanted size, so
that the body fills the field of view, and seeded noise restores what resampling smooths away. Nothing is measured on
these scans but time and memory.
"""

import os
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from APELocalizerLib.core.annotations.marks import read_points
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from benchmarks.timing import ROOT

SAMPLES = ROOT / "Resources" / "SampleData"
SUPPORT, TARGET = SAMPLES / "support_ct.nii.gz", SAMPLES / "target_ct.nii.gz"
MARKS = (SAMPLES / "support_points.csv", SAMPLES / "target_points.csv")
CT_FILES = (".nii.gz", ".nii", ".nrrd", ".mha")
NOISE_HU = 12.0
NOISE_SLICES = 8


@cache
def source() -> Scan:
    """The CT that the scans are made from."""
    folder = os.environ.get("BENCH_DATA")
    if not folder:
        return read_scan(SUPPORT)
    files = [path for path in sorted(Path(folder).iterdir()) if path.name.endswith(CT_FILES)]
    if not files:
        raise FileNotFoundError(f"BENCH_DATA names the folder {folder}, in which there is no {' or '.join(CT_FILES)}.")
    return read_scan(max(files, key=_voxel_count))


def source_text() -> str:
    """How the scans are made, in a sentence."""
    shape, spacing = source().voxels.shape, source().spacing
    size = f"{' × '.join(map(str, shape))} voxels of {' × '.join(f'{mm:.3g}' for mm in spacing)} mm"
    return (
        f"Larger scans are the real CT “{source().name}” ({size}), its cross-section stretched to the size named, "
        f"resampled linearly, repeated mirrored along the body axis, with seeded noise of {NOISE_HU:g} HU; int16."
    )


def stretched(shape: tuple[int, int, int], size_mm: tuple[float, float, float], name: str = "scan") -> Scan:
    """The source CT as a scan of `shape` (i, j, k) int16 voxels and `size_mm`; along k in its own mm, mirrored."""
    original = source()
    voxels = original.voxels.transpose(2, 1, 0)
    spacing = np.array(size_mm) / shape
    depth = np.arange(shape[2]) * spacing[2] / original.spacing[2]
    depth = _mirrored(depth, len(voxels))
    rows = _resampling(voxels.shape[1], shape[1])
    columns = _resampling(voxels.shape[2], shape[0]).T.copy()
    noise = np.random.default_rng(0).normal(0, NOISE_HU, (NOISE_SLICES, shape[1], shape[0])).astype(np.float32)
    out = np.empty(shape[::-1], np.int16)
    for k, at in enumerate(depth):
        below = min(int(at), len(voxels) - 2)
        part = np.float32(at - below)
        plane = voxels[below] * (1 - part) + voxels[below + 1] * part
        plane = rows @ plane @ columns
        plane += np.roll(noise[k % NOISE_SLICES], 17 * (k // NOISE_SLICES), axis=1)
        np.clip(plane, -1024, 3071, out=plane)
        out[k] = plane
    axes = np.sign(np.diag(original.ijk_to_ras)[:3])
    axes[axes == 0] = 1.0
    affine = np.diag([*(axes * spacing), 1.0])
    affine[:3, 3] = -axes * size_mm / 2
    return Scan(out.T, affine, name)


def torso(length_mm: float, width_mm: float = 350.0, pixels: int = 512, slice_mm: float = 1.5) -> Scan:
    """A scan of a square field of view, `length_mm` long."""
    slices = round(length_mm / slice_mm)
    return stretched((pixels, pixels, slices), (width_mm, width_mm, slices * slice_mm), f"torso {length_mm:g} mm")


def sample_pair() -> list[Scan]:
    """The support and the target of the sample data, as they are."""
    return [read_scan(SUPPORT), read_scan(TARGET)]


def sample_landmarks() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the landmarks marked on both sample scans, and their RAS positions (n, 3) on support and target."""
    support, target = (read_points(path) for path in MARKS)
    names = [name for name in support if name in target]
    return names, np.array([support[name] for name in names]), np.array([target[name] for name in names])


def written(scan: Scan, path: Path) -> Path:
    """Write a scan as a file; .gz is compressed at zlib's fastest level."""
    sitk.WriteImage(scan.to_sitk(), str(path), useCompression=path.suffix == ".gz", compressionLevel=1)
    return path


def _resampling(n: int, wanted: int) -> np.ndarray:
    """Matrix (wanted, n) float32 of linear interpolation, voxel edges aligned."""
    at = np.clip((np.arange(wanted) + 0.5) * n / wanted - 0.5, 0, n - 1)
    below = np.minimum(at.astype(int), n - 2)
    matrix = np.zeros((wanted, n), np.float32)
    rows = np.arange(wanted)
    matrix[rows, below + 1] = at - below
    matrix[rows, below] = 1 - (at - below)
    return matrix


def _mirrored(at: np.ndarray, n: int) -> np.ndarray:
    """Positions folded back and forth into 0 .. n - 1."""
    period = 2 * (n - 1)
    folded = np.mod(at, period)
    return np.where(folded > n - 1, period - folded, folded)


def _voxel_count(path: Path) -> int:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return int(np.prod(reader.GetSize()))
