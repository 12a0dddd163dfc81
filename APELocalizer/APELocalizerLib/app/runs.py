"""Runs over scan files: each scan's results in a folder of its own, complete or not there at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.core.base.errors import APELocalizerError, Cancelled
from APELocalizerLib.core.base.progress import CancelCheck, Progress, sub_progress

if TYPE_CHECKING:
    from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.core.localization.answers import Localization
    from APELocalizerLib.core.localization.localize import LocalizationSettings
    from APELocalizerLib.core.scan.scan import Scan

    WriteMore = Callable[[Scan, Localization, EmbeddingMap, Path], None]
    """Writes further files of one scan's results to a folder."""

OUTPUTS = ("landmarks.mrk.json", "boxes.csv", "rois", "results.csv", "map.nrrd", "scene.mrb", "views.png")
"""What earlier runs may have left in a result folder; replaced as a whole, so that nothing old stays beside new."""

MAP_SHARE, WRITING_SHARE = 0.8, 0.1
"""Parts of a run that the map and the writing take, for the progress bar."""


@dataclass(frozen=True)
class LocalizationRun:
    """What is looked for on every scan, and how: the engine, the library, and the settings.

    `write_more`, if given, writes further files into each result folder: a scene, a report. `warn` is told what a
    scan's file left open or what is doubtful about its values, in sentences.
    """

    engine: Engine
    library: LandmarkLibrary
    settings: LocalizationSettings
    spacing: str = "standard"
    write_more: WriteMore | None = None
    warn: Callable[[str], None] | None = None

    def on_scan(
        self, path: Path, folder: Path, progress: Progress | None = None, cancelled: CancelCheck | None = None
    ) -> Localization:
        """Localize on one scan file and write its folder; on an error the folder is as it was before."""
        from APELocalizerLib.core.embedding.map_files import save_map
        from APELocalizerLib.core.localization.write import write_results
        from APELocalizerLib.core.scan.read import read_scan

        scan = read_scan(path)
        for warning in scan.warnings if self.warn is not None else ():
            self.warn(warning)
        share = sub_progress(progress, 0.0, MAP_SHARE)
        embedding_map = self.engine.map(scan, self.spacing, None, share, cancelled)
        share = sub_progress(progress, MAP_SHARE, 1.0 - WRITING_SHARE)
        localization = self.engine.localize(embedding_map, self.library, self.settings, self.spacing, share, cancelled)
        with staged(folder) as staging:
            write_results(localization, staging)
            save_map(embedding_map, staging / "map.nrrd")
            if self.write_more is not None:
                self.write_more(scan, localization, embedding_map, staging)
        return localization

    def on_scans(
        self,
        paths: Sequence[Path],
        out: Path,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Iterator[Outcome]:
        """Localize on one scan file after another; a scan that fails does not stop the others.

        Raises Cancelled, and at once what `Engine.check` raises: it would stop every scan.
        """
        self.engine.check(self.library)
        folders = result_folders(paths, out)
        for number, (path, folder) in enumerate(zip(paths, folders, strict=True)):
            share = sub_progress(progress, number / len(folders), (number + 1) / len(folders))
            try:
                yield Outcome(path, folder, self.on_scan(path, folder, share, cancelled))
            except Cancelled:
                raise
            except APELocalizerError as error:
                yield Outcome(path, folder, error=error)


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: its localization, or the error that kept it from one."""

    path: Path
    folder: Path
    localization: Localization | None = None
    error: APELocalizerError | None = None


def summary(localization: Localization) -> str:
    """Say how much was found, in one line."""
    points = sum(point.found for point in localization.points)
    organs = sum(organ.found for organ in localization.organs)
    return f"{points} of {len(localization.points)} landmarks and {organs} of {len(localization.organs)} organs found."


def result_folders(scans: Sequence[Path], out: Path) -> list[Path]:
    """Return the folder of each scan's results: `out` for one scan, else one in `out` per scan, named after it."""
    if len(scans) == 1:
        return [out]
    from APELocalizerLib.core.scan.read import stem_of

    names: list[str] = []
    for scan in scans:
        name = base = stem_of(scan.resolve())
        repeated = 1
        while name in names:
            repeated += 1
            name = f"{base}-{repeated}"
        names.append(name)
    return [out / name for name in names]


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a temporary folder whose content moves into `folder` at the end, and vanishes on an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield staging
        folder.mkdir(exist_ok=True)
        for stale in OUTPUTS:
            _remove(folder / stale)
        for item in sorted(staging.iterdir()):
            item.replace(folder / item.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
