"""Made-up patients whose right answers are known: the embedding of a place is its position, moved per patient."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.ape import ApeMethod

SPACING = 8.0
SHAPE = (25, 25, 55)
ORIGIN = (-100.0, -100.0, -196.0)
"""RAS of the first voxel's center: the scans reach from -104 to 96 mm across, and from -200 to 240 mm along S."""

BOX_HEADER = "case,name,rmin,rmax,amin,amax,smin,smax,uncertainty_mm,cut_sides\n"
POINT_HEADER = "case,name,r_mm,a_mm,s_mm,uncertainty_mm\n"


def affine() -> np.ndarray:
    """Index→RAS of all made-up scans."""
    grid = np.diag([SPACING, SPACING, SPACING, 1.0])
    grid[:3, 3] = ORIGIN
    return grid


@dataclass
class World:
    """A folder of made-up scans. `shift` is what is subtracted from a patient's positions to get embeddings."""

    folder: Path
    shift: dict[str, np.ndarray] = field(default_factory=dict)
    points: str = POINT_HEADER
    boxes: str = BOX_HEADER
    embedded: list[str] = field(default_factory=list)

    def add(self, name: str, shift=(0.0, 0.0, 0.0)) -> None:
        """Add a scan."""
        self.shift[name] = np.array(shift, dtype=float)
        (self.folder / f"{name}.nii.gz").touch()

    def mark(self, name: str, landmark: str, position, sigma="") -> None:
        """Annotate a landmark."""
        self.points += f"{name},{landmark},{','.join(map(str, position))},{sigma}\n"
        (self.folder / "landmarks.csv").write_text(self.points)

    def box(self, name: str, organ: str, sides, sigma="", cut="") -> None:
        """Annotate a box; `sides` are rmin, rmax, amin, amax, smin, smax."""
        self.boxes += f"{name},{organ},{','.join(map(str, sides))},{sigma},{cut}\n"
        (self.folder / "boxes.csv").write_text(self.boxes)

    def label_map(self, name: str, organs: dict[str, tuple[slice, slice, slice]]) -> None:
        """Label voxels of a scan: the organ's name → slices of voxel indices."""
        labels = np.zeros(SHAPE, np.uint8)
        for number, part in enumerate(organs.values(), start=1):
            labels[part] = number
        image = sitk.GetImageFromArray(labels.transpose(2, 1, 0))
        image.SetSpacing((SPACING,) * 3)
        image.SetOrigin((-ORIGIN[0], -ORIGIN[1], ORIGIN[2]))
        image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
        sitk.WriteImage(image, str(self.folder / f"{name}_seg.nii.gz"))
        names = {str(number): organ for number, organ in enumerate(organs, start=1)}
        (self.folder / f"{name}_labels.json").write_text(json.dumps(names))

    def scan(self, path: Path) -> Scan:
        """What `read_scan` reads."""
        voxels = np.random.default_rng(0).normal(40, 200, SHAPE).astype(np.int16)
        voxels[::3] = -900
        return Scan(voxels, affine(), path.name.split(".")[0])

    def embed(self, scan: Scan) -> tuple[EmbeddingMap, float]:
        """Map of cells of 10 mm over the scan's field of view, all of them body; takes half a second."""
        self.embedded.append(scan.name)
        view = scan.bounds()
        shape = np.maximum(np.ceil(view.size / 10).astype(int), 2)
        grid = np.diag([10.0, 10.0, 10.0, 1.0])
        grid[:3, 3] = np.array(view.minimum) + 5
        cells = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        values = (cells * 10.0 + grid[:3, 3] - self.shift[scan.name.split()[0]]).astype(np.float32)
        body = np.ones(shape, bool)
        return EmbeddingMap(
            values, body, grid, CoordinateSpace("test@1"), "standard", view, scan.name, scan.fingerprint
        ), 0.5

    def method(self, name: str = "made up") -> ApeMethod:
        """The product with this embedding."""
        return ApeMethod(name, self.embed)


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    """An empty folder of scans that the study reads as made-up ones."""
    made_up = World(tmp_path / "data")
    made_up.folder.mkdir()
    monkeypatch.setattr("APELocalizerLib.evaluation.study.read_scan", made_up.scan)
    return made_up


@pytest.fixture
def patients(world) -> World:
    """Anna, and Bert who lies 30 mm higher; three landmarks, a whole liver, and lungs that the field of view cuts."""
    for name, height in (("anna", 0.0), ("bert", 30.0)):
        world.add(name, (0, 0, height))
        for landmark, s in (("apex", 180), ("carina", 90), ("hip", -170)):
            world.mark(name, landmark, (10, 20, s + height), 3 if name == "anna" else 4)
        world.box(name, "liver", (-60, 40, -50, 50, -20 + height, 60 + height), 3)
        world.box(name, "lung", (-60, 40, -50, 50, 0, 190), 3, "smax")
    return world
