"""Reads a segmentation file: a volume whose voxels hold the number of the organ they belong to."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import LearningError
from APELocalizerLib.core.base.geometry import RAS_LPS


def read_label_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read labels (i, j, k) int32 and their 4x4 index→RAS mm from a NIfTI, NRRD or MetaImage file.

    Raises `LearningError` for a file that is not one three-dimensional volume of whole numbers.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise LearningError(f"{path} cannot be read as a segmentation. Save it as a NIfTI or NRRD file.") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise LearningError(
            f"{path.name} is not one three-dimensional label map. In Slicer, export the segmentation as labelmap."
        )
    values = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    if not np.array_equal(values, np.round(values)):
        raise LearningError(f"{path.name} holds values that are not whole numbers, so it is no label map.")
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    ijk_to_lps[:3, 3] = image.GetOrigin()
    return values.astype(np.int32), RAS_LPS @ ijk_to_lps
