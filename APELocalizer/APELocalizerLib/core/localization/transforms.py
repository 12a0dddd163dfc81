"""A correspondence as a transform for registration programs: rigid, affine, thin-plate spline or the field itself.

ITK's transforms, and so those of SimpleITK, elastix, ANTs and Slicer's files, take a point of the *fixed* scan to the
*moving* one, in LPS mm. Here the first scan of the correspondence is the fixed one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from APELocalizerLib.core.base.errors import CorrespondenceError
from APELocalizerLib.core.base.files import replacing, write_text
from APELocalizerLib.core.base.geometry import LPS, RAS_LPS, Box
from APELocalizerLib.core.localization.control_points import CLOSEST_MM, thinned
from APELocalizerLib.core.localization.correspondence import AGREES, Correspondence
from APELocalizerLib.core.localization.symmetric_field import fit_affine
from APELocalizerLib.core.localization.thin_plate import ThinPlate

if TYPE_CHECKING:
    import SimpleITK as sitk

KINDS = ("rigid", "affine", "thin-plate", "field")
"""Kinds of transforms, from stiff to bent."""

TRANSFORM_ENDINGS = (".h5", ".hdf5", ".tfm", ".txt")
"""Endings of ITK's transform files."""

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Endings of images that hold the displacement (LPS mm) of every place."""

POINT_ENDINGS = (".txt", ".csv")
"""Endings of point lists: elastix and ANTs."""

NODE_MM = 8.0
"""Distance of the nodes of a displacement field."""

SPLINE_POINTS, LISTED_POINTS = 80, 120
"""Most pairs of points that a thin-plate spline goes through, and that are listed."""

Mapping = Callable[[np.ndarray], np.ndarray]
"""From points (n, 3) RAS mm of the fixed scan to the moving one."""


def paired_points(correspondence: Correspondence, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` places (n, 3) spread over the first scan, and where the field takes them (n, 3), RAS mm.

    Raises `CorrespondenceError` if too few are in view.
    """
    controls = correspondence.control_points
    places = controls.first[correspondence.field.weights >= AGREES]
    carried = correspondence.to_second(places)
    places, positions = places[carried.in_view], carried.positions_ras[carried.in_view]
    rows = thinned(places, CLOSEST_MM, most)
    if len(rows) < 4:
        raise CorrespondenceError("The scans share too little for a transform. Choose scans that overlap more.")
    return places[rows], positions[rows]


def itk_transform(correspondence: Correspondence, kind: str, view: Box) -> sitk.Transform:
    """The transform of a kind (`KINDS`) from the first scan to the second, LPS mm.

    A thin-plate spline and the field are displacement fields over `view`, RAS mm of the first scan, for ITK's programs
    do not read splines; beyond it they move nothing. Raises `CorrespondenceError` if the scans share too little.
    """
    import SimpleITK as sitk

    if kind == "field":
        return sitk.DisplacementFieldTransform(displacement_image(correspondence.field.forward, view))
    if kind == "thin-plate":
        spline = ThinPlate(*paired_points(correspondence, SPLINE_POINTS))
        return sitk.DisplacementFieldTransform(displacement_image(spline, view))
    fixed, moving = paired_points(correspondence, len(correspondence.control_points))
    ridge = np.inf if kind == "rigid" else 0.0
    matrix = RAS_LPS @ fit_affine(fixed, moving, np.ones(len(fixed)), ridge) @ RAS_LPS
    transform = sitk.VersorRigid3DTransform() if kind == "rigid" else sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform


def displacement_image(mapping: Mapping, view: Box, node_mm: float = NODE_MM) -> sitk.Image:
    """Displacement (LPS mm) of places every `node_mm` over `view` (RAS mm) and a node beyond it on all sides."""
    import SimpleITK as sitk

    low, high = np.array(view.minimum) - node_mm, np.array(view.maximum) + node_mm
    shape = np.ceil((high - low) / node_mm).astype(int) + 1
    indices = np.argwhere(np.ones(shape[::-1], bool))[:, ::-1]  # the first axis runs fastest, as in ITK
    corner = np.array([high[0], high[1], low[2]])  # the least along L, P and S
    places = corner + node_mm * indices * LPS
    moved = (mapping(places) - places) * LPS
    image = sitk.GetImageFromArray(moved.reshape(*shape[::-1], 3), isVector=True)
    image.SetOrigin((corner * LPS).tolist())
    image.SetSpacing([node_mm] * 3)
    return image


def write_transform(transform: sitk.Transform, path: str | Path) -> None:
    """Write an ITK transform file, or the displacement as an image if `path` ends so; in one step. Raises `OSError`."""
    import SimpleITK as sitk

    with replacing(path) as beside:
        if ends_with(path, IMAGE_ENDINGS):
            field = sitk.DisplacementFieldTransform(transform).GetDisplacementField()
            sitk.WriteImage(field, str(beside), useCompression=True)
        else:
            sitk.WriteTransform(transform, str(beside))


def point_list_files(path: str | Path) -> tuple[Path, Path]:
    """Files of a pair of point lists: `pairs.txt` stands for `pairs_fixed.txt` and `pairs_moving.txt`."""
    path = Path(path)
    fixed, moving = (path.with_name(f"{path.stem}_{which}{path.suffix}") for which in ("fixed", "moving"))
    return fixed, moving


def write_point_lists(correspondence: Correspondence, path: str | Path) -> None:
    """Write the pairs of places as two lists in LPS mm: elastix's format for .txt, that of ANTs for .csv.

    Raises `OSError`, and `CorrespondenceError` if the scans share too little.
    """
    as_text = _elastix_text if ends_with(path, (".txt",)) else _ants_text
    both = paired_points(correspondence, LISTED_POINTS)
    for file, points in zip(point_list_files(path), both, strict=True):
        write_text(file, as_text(points * LPS))


def ends_with(path: str | Path, endings: tuple[str, ...]) -> bool:
    """Whether a file's name ends with one of these, in any case."""
    return Path(path).name.lower().endswith(endings)


def _elastix_text(points: np.ndarray) -> str:
    """Points (n, 3) LPS mm as elastix reads them (-fp, -mp)."""
    return "\n".join(["point", str(len(points)), *(" ".join(f"{x:.3f}" for x in point) for point in points), ""])


def _ants_text(points: np.ndarray) -> str:
    """Points (n, 3) LPS mm as the programs of ANTs read them."""
    rows = (",".join([*(f"{x:.3f}" for x in point), "0", str(n)]) for n, point in enumerate(points, start=1))
    return "\n".join(["x,y,z,t,label", *rows, ""])
