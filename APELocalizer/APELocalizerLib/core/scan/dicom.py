"""Reading a CT series from DICOM files: which slices make the scan, and that none of them is lost without a word.

The grid is built from ImagePositionPatient, ImageOrientationPatient and PixelSpacing of the slices or frames (DICOM
PS3.3 C.7.6.2), not from ITK's series reader, because that one straightens the slices of a tilted gantry.
"""

from pathlib import Path

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import RAS_LPS
from APELocalizerLib.core.scan import dicom_frames as groups
from APELocalizerLib.core.scan.dicom_grid import grid_of
from APELocalizerLib.core.scan.dicom_images import SAME_GRID, Slice, frames, read_header, read_pixels
from APELocalizerLib.core.scan.scan import Scan, shared_array

MAXIMUM_FILES = 20_000

VOLUME_FILES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def read_folder(folder: Path) -> Scan:
    """Read the CT series with the most slices below a folder (scout views excluded).

    Raises:
        ScanError: no DICOM, no CT, missing slices, uneven slice distances, several images at one position.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.upper() != "DICOMDIR")
    if len(files) > MAXIMUM_FILES:
        raise ScanError(f"The folder “{folder.name}” holds {len(files)} files. Choose the folder of one CT series.")
    headers = {path: read_header(path) for path in files}
    slices = [header for header in headers.values() if header is not None]
    if not slices:
        volumes = [path.name for path in files if path.name.lower().endswith(VOLUME_FILES)]
        if volumes:
            raise ScanError(
                f"The folder “{folder.name}” holds no DICOM images, but volume files such as “{volumes[0]}”. "
                "Name such a file instead of the folder."
            )
        raise ScanError(f"The folder “{folder.name}” holds no DICOM images. Choose the folder of a CT series.")
    _check_unreadable([path for path, header in headers.items() if header is None], slices)
    return _read_longest_ct(slices, folder.name)


def _check_unreadable(unreadable: list[Path], slices: list[Slice]) -> None:
    """Refuse files beside the images that seem to be images as well, but are empty or damaged."""
    folders = {header.path.parent for header in slices}
    suffixes = {header.path.suffix.lower() for header in slices}
    damaged = []
    for path in unreadable:
        if path.parent not in folders or path.name.startswith("."):
            continue
        with open(path, "rb") as file:
            start = file.read(132)
        if start[128:] != b"DICM":
            if path.suffix.lower() in suffixes and path.suffix.lower() not in (".txt", ".xml", ".json", ".pdf"):
                damaged.append(path)
            continue
        if groups.is_damaged_image(path):
            damaged.append(path)
    if damaged:
        raise ScanError(
            f"{len(damaged)} file(s) of the DICOM folder “{damaged[0].parent.name}” are empty or damaged, the first is "
            f"“{damaged[0].name}”. Export or copy the whole series again."
        )


def read_file(path: Path) -> Scan:
    """Read a multi-frame CT from one DICOM file; a single slice is refused with the advice to choose its folder."""
    header = read_header(path)
    if header is None:
        raise ScanError(f"“{path.name}” cannot be read: it is damaged or incomplete. Export or copy it again.")
    if len(header.size) < 3 or header.size[2] == 1:
        raise ScanError(f"“{path.name}” is one slice of a series. Choose the folder that holds all of its slices.")
    return _read_longest_ct([header], path.name)


def _read_longest_ct(slices: list[Slice], name: str) -> Scan:
    usable = [header for header in slices if header.modality == "CT" and not header.localizer]
    if not usable:
        modalities = sorted({header.modality or "unknown" for header in slices if not header.localizer})
        if modalities == ["SEG"]:
            raise ScanError(
                f"“{name}” is a DICOM segmentation, not a CT. Choose the CT. To learn from a segmentation, load it "
                "in Slicer, export it as label map and save that as a NIfTI or NRRD file."
            )
        kinds = ", ".join(modalities) or "scout views"
        raise ScanError(f"“{name}” holds no CT series, only {kinds}. Choose the folder of a CT series.")
    if len({header.patient for header in usable}) > 1:
        raise ScanError(f"“{name}” holds CT images of several patients. Choose the folder of one series.")
    stacks = _stacks([frame for header in usable for frame in frames(header)])
    longest = max(stacks, key=len)
    warnings = _left_out(stacks, longest, name)
    ordered, affine = grid_of(longest, name)
    if ordered[0].frame is None:
        image = read_pixels([header.path for header in ordered], name)
        return Scan(shared_array(image).T, RAS_LPS @ affine, name, warnings)
    voxels = shared_array(read_pixels([ordered[0].path], name)).T
    if voxels.ndim != 3 or voxels.shape[2] != ordered[0].size[2]:
        raise ScanError(f"The frames of “{name}” cannot be read. Export the series as single images.")
    frame_order = [header.frame for header in ordered if header.frame is not None]
    return Scan(voxels[:, :, frame_order], RAS_LPS @ affine, name, warnings)


def _stacks(slices: list[Slice]) -> list[list[Slice]]:
    """Slices that can form one volume together; frames only with frames of their own file."""
    stacks: list[list[Slice]] = []
    for header in slices:
        for stack in stacks:
            together = header.frame is None and stack[0].frame is None or header.path == stack[0].path
            if together and header.fits(stack[0]):
                stack.append(header)
                break
        else:
            stacks.append([header])
    return stacks


def _left_out(stacks: list[list[Slice]], longest: list[Slice], name: str) -> tuple[str, ...]:
    """A warning that names what is not read; raises `ScanError` if it is part of the very series that is read."""
    others = [stack for stack in stacks if stack is not longest]
    part = [
        stack
        for stack in others
        if stack[0].series == longest[0].series and abs(stack[0].normal @ longest[0].normal) > 1 - 10 * SAME_GRID
    ]
    if part:
        raise ScanError(
            f"{sum(map(len, part))} of the parallel slices of the series in “{name}” differ from the other "
            f"{len(longest)} in size, spacing or direction. Export them as a series of their own."
        )
    if not others:
        return ()
    series = len({stack[0].series for stack in others} | {longest[0].series})
    return (
        f"“{name}” holds {series} CT series; the longest with {len(longest)} slices was read, and "
        f"{sum(map(len, others))} other images were not. Choose the folder of one series if another one is meant.",
    )
