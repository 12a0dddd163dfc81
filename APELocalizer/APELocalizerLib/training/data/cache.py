"""Scans prepared once: images on disk that training maps into memory instead of reading and resampling again.

A prepared scan is a folder named by its key with `image.npy` (uint8 or float16), `body.npy` (bool) and `scan.json`,
axes (posterior, left, inferior). The key hashes the scan's fingerprint (voxels and geometry) and the settings, so that
a changed scan or setting is prepared anew and nothing stale is used. Folders appear complete or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from APELocalizerLib.core.base.errors import APELocalizerError, Cancelled, TrainingError
from APELocalizerLib.core.base.files import write_text
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report, sub_progress
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.prepare import prepare
from APELocalizerLib.core.scan.read import read_scan

_LOG = logging.getLogger(__name__)
_VERSION = 1
_INDEX = "index.json"
_ABANDONED_S = 24 * 3600.0


@dataclass(frozen=True)
class CacheSettings:
    """How scans are stored: prepared as for inference at a spacing (P, L, I) in mm, as "uint8" or "float16"."""

    preparation: PreparationConfig
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.5)
    kind: str = "float16"

    def __post_init__(self) -> None:
        if self.kind not in ("uint8", "float16"):
            raise TrainingError(f'Prepared scans are stored as "uint8" or "float16", not as "{self.kind}".')

    def key(self, fingerprint: str) -> str:
        """What decides the stored numbers of a scan, in 16 letters."""
        values = [_VERSION, fingerprint, self.preparation.to_dict(), list(self.spacing), self.kind]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PreparedFile:
    """A scan of the cache.

    grid_to_ras: 4x4, from voxel index (P, L, I) to RAS mm. spacing: mm along P, L, I.
    """

    name: str
    folder: Path
    shape: tuple[int, int, int]
    grid_to_ras: np.ndarray
    kind: str

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size (3,) in mm along P, L, I."""
        return np.linalg.norm(self.grid_to_ras[:3, :3], axis=0)

    def image(self) -> np.ndarray:
        """The image as stored (0 to 1, or 0 to 255), mapped into memory."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    def body(self) -> np.ndarray:
        """The body mask (bool), mapped into memory."""
        return np.load(self.folder / "body.npy", mmap_mode="r")

    @property
    def unit(self) -> float:
        """Stored value that means 1."""
        return 255.0 if self.kind == "uint8" else 1.0


def prepare_scans(
    scans: Mapping[str, Path],
    cache: Path,
    settings: CacheSettings,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> tuple[list[PreparedFile], dict[str, str]]:
    """Prepare all scans that the cache lacks; returns the prepared ones and, by name, why others were left out.

    Raises `TrainingError` if none is left, `Cancelled` if `cancelled` returned True.
    """
    cache.mkdir(parents=True, exist_ok=True)
    _sweep(cache)
    index = _Index(cache / _INDEX)
    prepared, problems = [], {}
    for number, (name, path) in enumerate(scans.items()):
        check_cancelled(cancelled)
        part = sub_progress(progress, number / len(scans), (number + 1) / len(scans))
        report(part, 0.0, f"Preparing {name}")
        try:
            prepared.append(_prepared(name, path, cache, settings, index, part, cancelled))
        except Cancelled:
            raise
        except (APELocalizerError, OSError, MemoryError) as error:
            problems[name] = str(error) or "There is not enough memory to prepare it."
            _LOG.warning("%s is left out: %s", name, problems[name])
    if not prepared:
        first = next(iter(problems.items()), ("", "no scan was given"))
        raise TrainingError(f"None of the {len(scans)} scans can be used. The first, {first[0]}: {first[1]}")
    return prepared, problems


def _sweep(cache: Path) -> None:
    """Remove what processes that were killed left half-written, once it is surely not in use."""
    for left in cache.glob("*.part"):
        if time.time() - left.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _prepared(
    name: str,
    path: Path,
    cache: Path,
    settings: CacheSettings,
    index: _Index,
    progress: Progress | None,
    cancelled: CancelCheck | None,
) -> PreparedFile:
    fingerprint = index.fingerprint(path)
    if fingerprint is not None and (kept := _read(name, cache / settings.key(fingerprint), settings)) is not None:
        return kept
    scan = read_scan(path)
    index.remember(path, scan.fingerprint)
    folder = cache / settings.key(scan.fingerprint)
    if (kept := _read(name, folder, settings)) is not None:
        return kept
    prepared = prepare(scan, settings.preparation, settings.spacing, progress, cancelled)
    image = np.asarray(prepared.image)
    stored = np.rint(image * 255.0).astype(np.uint8) if settings.kind == "uint8" else image.astype(np.float16)
    facts = {
        "name": name, "fingerprint": scan.fingerprint, "shape": list(image.shape), "kind": settings.kind,
        "grid_to_ras": prepared.grid_to_ras.tolist(), "spacing_mm": list(settings.spacing),
        "preparation": settings.preparation.to_dict(),
    }  # fmt: skip
    _write(folder, np.ascontiguousarray(stored), np.ascontiguousarray(prepared.body_mask), facts)
    return PreparedFile(name, folder, image.shape, prepared.grid_to_ras, settings.kind)


def _write(folder: Path, image: np.ndarray, body: np.ndarray, facts: dict[str, Any]) -> None:
    """Write a prepared scan beside its place, then move it there in one step."""
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        np.save(temporary / "image.npy", image)
        np.save(temporary / "body.npy", body)
        (temporary / "scan.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        try:
            os.replace(temporary, folder)
        except OSError:  # another process was faster
            if not (folder / "scan.json").exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read(name: str, folder: Path, settings: CacheSettings) -> PreparedFile | None:
    """A prepared scan, or None where there is none."""
    try:
        facts = json.loads((folder / "scan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return PreparedFile(name, folder, tuple(facts["shape"]), np.array(facts["grid_to_ras"]), settings.kind)


class _Index:
    """Which file had which fingerprint when it was last read, so that unchanged files are not read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}

    def fingerprint(self, path: Path) -> str | None:
        """The fingerprint of an unchanged file or folder, or None."""
        return self.known.get(state_of(path))

    def remember(self, path: Path, fingerprint: str) -> None:
        """Keep a fingerprint, at once and atomically."""
        self.known[state_of(path)] = fingerprint
        write_text(self.path, json.dumps(self.known, indent=0))


def state_of(path: Path) -> str:
    """Path, sizes and times of a file or of all files of a folder, hashed: differs when anything has changed."""
    if path.is_dir():
        files = sorted(path.rglob("*"))
    elif path.suffix.lower() in (".mhd", ".nhdr"):  # headers; the voxels are in a file beside them
        files = sorted(other for other in path.parent.iterdir() if other.name.startswith(path.stem))
    else:
        files = [path]
    facts = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
