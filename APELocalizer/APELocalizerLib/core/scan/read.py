"""Reading a CT from a file or a DICOM folder."""

import re
from pathlib import Path

import SimpleITK as sitk

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.scan import dicom as dicom_series
from APELocalizerLib.core.scan import nifti
from APELocalizerLib.core.scan.scan import Scan

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NO_SPACING = "“{}” has a voxel spacing of zero. Correct the spacing in its header, or export it again."


def read_scan(path: str | Path) -> Scan:
    """Read a CT: NIfTI, NRRD or MetaImage file, or DICOM folder; named after the file or folder.

    Of a DICOM folder with several series (subfolders included) the CT series with the most slices is taken. The tilt of
    a gantry and the shear of a NIfTI sform are kept in the scan's ijk_to_ras.

    Raises:
        ScanError: missing, unreadable or unsupported file, no or incomplete CT series, or whatever `Scan` refuses.
    """
    path = Path(path)
    if not path.exists():
        raise ScanError(f"There is no file or folder “{path}”. Check the path.")
    if path.is_dir():
        return dicom_series.read_folder(path)
    name = path.name.lower()
    if name.endswith(VOLUME_SUFFIXES):
        return _read_volume(path)
    if name.endswith(DICOM_SUFFIXES):
        return dicom_series.read_file(path)
    raise ScanError(
        f"“{path.name}” is not a kind of file that can be read. "
        f"Use one of {', '.join(VOLUME_SUFFIXES)}, or the folder of a DICOM series."
    )


def stem_of(path: Path) -> str:
    """File name without its volume suffix (“ct.nii.gz” → “ct”)."""
    return re.sub(r"(\.nii\.gz|\.nii|\.nrrd|\.nhdr|\.mha|\.mhd)$", "", path.name, flags=re.IGNORECASE) or path.name


def _read_volume(path: Path) -> Scan:
    if path.name.lower().endswith((".nii", ".nii.gz")):
        if not nifti.is_complete(path):
            raise ScanError(nifti.DAMAGED.format(path.name))
        affine = nifti.sheared_affine(path)
        if affine is not None:
            return Scan(nifti.read_voxels(path), affine, stem_of(path))
        if nifti.lacks_spacing(path):
            raise ScanError(NO_SPACING.format(path.name))
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        if re.search("spacing", str(error), re.IGNORECASE):
            raise ScanError(NO_SPACING.format(path.name)) from error
        raise ScanError(nifti.DAMAGED.format(path.name)) from error
    scan = Scan.from_sitk(image, stem_of(path), copy=False)
    if nifti.holds_floats(path):
        return Scan(nifti.read_voxels(path), scan.ijk_to_ras, scan.name)
    return scan
