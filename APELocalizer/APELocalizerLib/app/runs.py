"""Runs over scan files: each scan's results in a folder of its own, complete or not there at all."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.app.result_folder import check_usable, reserved, staged
from APELocalizerLib.app.result_names import result_folders
from APELocalizerLib.core.base.errors import APELocalizerError, Cancelled, in_a_sentence
from APELocalizerLib.core.base.progress import CancelCheck, Progress, sub_progress
from APELocalizerLib.core.base.version import VERSION

if TYPE_CHECKING:
    from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.core.localization.answers import Localization
    from APELocalizerLib.core.localization.localize import LocalizationSettings
    from APELocalizerLib.core.scan.scan import Scan

    WriteMore = Callable[[Scan, Localization, EmbeddingMap, Path], None]
    """Writes further files of one scan's results to a folder."""

logger = logging.getLogger(__name__)

MAP_SHARE, WRITING_SHARE = 0.8, 0.1
"""Parts of a run that the map and the writing take, for the progress bar."""


@dataclass(frozen=True)
class LocalizationRun:
    """What is looked for on every scan, and how: the engine, the library, and the settings.

    `write_more`, if given, writes further files into each result folder: a scene, a report. `warn` is told what a
    scan's file left open, what is doubtful about its values, and what to know about its results, in sentences.
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
        """Localize on one scan file and write its folder; on an error the folder is as it was before.

        Raises ResultsError, before the scan is read, for a folder that results cannot be written to.
        """
        with reserved(folder):
            return self._on_scan(path, folder, progress, cancelled)

    def _on_scan(
        self, path: Path, folder: Path, progress: Progress | None, cancelled: CancelCheck | None
    ) -> Localization:
        from APELocalizerLib.core.embedding.map_files import save_map
        from APELocalizerLib.core.localization.write import write_results
        from APELocalizerLib.core.scan.read import read_scan

        scan = read_scan(path)
        self._warn(scan.warnings)
        share = sub_progress(progress, 0.0, MAP_SHARE)
        embedding_map = self.engine.map(scan, self.spacing, None, share, cancelled)
        share = sub_progress(progress, MAP_SHARE, 1.0 - WRITING_SHARE)
        localization = self.engine.localize(embedding_map, self.library, self.settings, self.spacing, share, cancelled)
        self._warn(localization.notes)
        with staged(folder, self._record(scan, embedding_map, localization)) as staging:
            write_results(localization, staging)
            save_map(embedding_map, staging / "map.nrrd")
            if self.write_more is not None:
                self.write_more(scan, localization, embedding_map, staging)
        return localization

    def _warn(self, sentences: Sequence[str]) -> None:
        if self.warn is not None:
            for sentence in sentences:
                self.warn(sentence)

    @cached_property
    def library_digest(self) -> str:
        """Short name of exactly what the library holds."""
        from APELocalizerLib.core.library.files import to_json

        return hashlib.sha256(to_json(self.library).encode()).hexdigest()[:16]

    def _record(self, scan: Scan, embedding_map: EmbeddingMap, localization: Localization) -> dict[str, Any]:
        """How the results came about, for the file beside them."""
        return {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "software": f"APELocalizer {VERSION}",
            "scan": scan.name,
            "scan_sha256": scan.fingerprint,
            "model": embedding_map.model_id,
            "library_sha256": self.library_digest,
            "aligned_with": embedding_map.space.aligned_with,
            "spacing": localization.spacing,
            "settings": {
                **asdict(self.settings),
                "round_trip_threshold_mm": localization.threshold_mm,
            },
            "warnings": [*scan.warnings, *localization.notes],
        }

    def on_scans(
        self,
        paths: Sequence[Path],
        out: Path,
        progress: Progress | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Iterator[Outcome]:
        """Localize on one scan file after another; a scan that fails does not stop the others.

        Raises Cancelled, and at once what would stop every scan: what `Engine.check` raises, and ResultsError for an
        `out` that nothing can be written to.
        """
        self.engine.check(self.library)
        check_usable(out.absolute(), but_for_files=True)
        folders = result_folders(paths, out)
        for number, (path, folder) in enumerate(zip(paths, folders, strict=True)):
            share = sub_progress(progress, number / len(folders), (number + 1) / len(folders))
            try:
                yield Outcome(path, folder, self.on_scan(path, folder, share, cancelled))
            except Cancelled:
                raise
            except Exception as error:
                logger.debug("%s could not be localized on", path.name, exc_info=True)
                yield Outcome(path, folder, error=in_a_sentence(error))


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
