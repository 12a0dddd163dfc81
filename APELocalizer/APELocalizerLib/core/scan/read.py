"""Reading a CT from a file or a DICOM folder, and any other volume from a file."""

import os
import re
from pathlib import Path

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.scan import dicom
from APELocalizerLib.core.scan.metaimage import read_metaimage
from APELocalizerLib.core.scan.nifti import read_nifti
from APELocalizerLib.core.scan.nrrd import read_nrrd
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.core.scan.volume import Volume

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

NOT_SUPPORTED = "File type of “{}” not supported. Use one of {}, or the folder of a DICOM series."


def read_scan(path: str | Path) -> Scan:
    """Read a CT: NIfTI, NRRD or MetaImage file, or DICOM folder; named after the file or folder.

    Of a DICOM folder with several series (subfolders included) the CT series with the most slices is taken. The tilt of
    a gantry and the shear of a NIfTI sform are kept in the scan's ijk_to_ras. What the file left open is said in
    the scan's warnings.

    Raises:
        ScanError: missing, unreadable or unsupported file, no or incomplete CT series, or whatever `Scan` refuses.
    """
    path = Path(path)
    if not path.exists():
        raise ScanError(f"There is no file or folder “{path}”. Check the path.")
    if path.is_dir():
        return dicom.read_folder(path)
    if path.name.lower().endswith(DICOM_SUFFIXES):
        return dicom.read_file(path)
    volume = read_volume(path)
    name = stem_of(path)
    if volume.values_per_voxel != 1:
        raise ScanError(
            f"“{name}” has {volume.values_per_voxel} values per voxel (color or vector image). "
            "Choose the CT volume itself, which has one value per voxel."
        )
    return Scan(volume.voxels, volume.ijk_to_ras, name, volume.warnings)


def read_volume(path: Path) -> Volume:
    """Exactly the file named, whatever it shows: NIfTI, NRRD or MetaImage. Raises `ScanError` as the readers do."""
    if not os.path.isfile(path):
        raise ScanError(f"There is no file “{path}”. Check the path.")
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return read_nifti(path)
    if name.endswith((".nrrd", ".nhdr")):
        return read_nrrd(path)
    if name.endswith((".mha", ".mhd")):
        return read_metaimage(path)
    raise ScanError(NOT_SUPPORTED.format(path.name, ", ".join(VOLUME_SUFFIXES)))


def stem_of(path: Path) -> str:
    """File name without its volume suffix (“ct.nii.gz” → “ct”)."""
    return re.sub(r"(\.nii\.gz|\.nii|\.nrrd|\.nhdr|\.mha|\.mhd)$", "", path.name, flags=re.IGNORECASE) or path.name
