"""Made-up patients whose right answers are known: the embedding of a place is its position, moved per patient."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from APELocalizerLib.core.annotations.cases import with_patients
from APELocalizerLib.core.annotations.folder import read_data_folder
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.localization.localize import localize
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.evaluation.pairing import StudySettings
from APELocalizerLib.evaluation.study import Study, run_study
from APELocalizerLib.methods.ape import ApeMethod
from made_up.files import write_voxels
from made_up.maps import map_of_scan

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
        write_voxels(self.folder / f"{name}_seg.nii.gz", labels, affine())
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
        shift = self.shift[scan.name.split()[0]]
        return map_of_scan(scan, lambda positions: positions - shift, model_id="test@1"), 0.5

    def method(self, name: str = "made up") -> ApeMethod:
        """The product with this embedding."""
        return ApeMethod(name, self.embed, localize)


def study_of(world, *methods, protocol=None, prefixes=(), targets=None, **settings) -> Study:
    """The study of the patients made up so far; `settings` are those of `StudySettings`."""
    cases = with_patients(list(read_data_folder([world.folder]).values()), prefixes)
    chosen = [case for case in cases if targets is None or case.id in targets]
    return run_study(chosen, cases, methods or [world.method()], protocol, StudySettings(**settings))
