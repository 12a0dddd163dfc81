"""Two sample CTs in Slicer's Sample Data module: copies that came with the extension, else a checked download."""

import csv
from dataclasses import dataclass
from pathlib import Path

import slicer
import slicer.util

from APELocalizerLib.core.base.resources import resources_folder
from APELocalizerLib.scene.headless import add_volume, inside_slicer
from APELocalizerLib.scene.nodes import VolumeNode

CATEGORY = "APE Localizer"
ADDRESS = "https://raw.githubusercontent.com/APELocalizer/SlicerAPELocalizer/main/Resources/SampleData/"


@dataclass(frozen=True)
class Sample:
    """A CT: what the Sample Data module calls it, its file, and the file's SHA-256."""

    title: str
    file_name: str
    sha256: str

    @property
    def node_name(self) -> str:
        """Name of the node that it is loaded as."""
        return self.file_name.removesuffix(".nii.gz")


SUPPORT = Sample(
    "APESupportCT", "support_ct.nii.gz", "e8017504b85c84eae60ffb57b1f95627abc974437594fc7d1d23923ed5f4a7aa"
)
TARGET = Sample("APETargetCT", "target_ct.nii.gz", "7b063fd4216f103856221c7fad8a68be817adb4c49dac84a729bbcccedcdb48c")


def sample_file(name: str) -> Path | None:
    """A file of the sample data on this computer, in the installed extension or a checkout; None if there is none."""
    folders = (resources_folder() / "APELocalizerSampleData", resources_folder().parents[1] / "Resources/SampleData")
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def load_sample(sample: Sample) -> VolumeNode | None:
    """Load a sample CT from this computer: its volume node, or None if it is not here."""
    path = sample_file(sample.file_name)
    if path is None:
        return None
    if inside_slicer():
        return slicer.util.loadVolume(str(path), {"name": sample.node_name})
    from APELocalizerLib.core.scan.read import read_scan

    scan = read_scan(path)
    return add_volume(scan.voxels, scan.ijk_to_ras, sample.node_name)


def sample_points(name: str) -> dict[str, tuple[float, float, float]]:
    """Marks of a sample CT, "support" or "target": {landmark: RAS mm}; empty if they are not on this computer."""
    path = sample_file(f"{name}_points.csv")
    if path is None:
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return {row["name"]: (float(row["r_mm"]), float(row["a_mm"]), float(row["s_mm"])) for row in rows}


def register_sample_data() -> None:
    """Offer both CTs in Slicer's Sample Data module. Nothing is read or downloaded before the user asks for it."""
    import SampleData

    for sample in (SUPPORT, TARGET):
        is_here = sample_file(sample.file_name) is not None
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.title,
            uris=ADDRESS + sample.file_name,
            fileNames=sample.file_name,
            nodeNames=sample.node_name,
            checksums=f"SHA256:{sample.sha256}",
            customDownloader=(lambda _source, sample=sample: [load_sample(sample)]) if is_here else None,
        )
