"""Registrations kept in a folder between runs: they do not depend on the model, and take much longer than all else.

A transform's name is made from the two scans, the kind of registration and the code that registers.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from APELocalizerLib.core.base.files import replacing, write_text


class TransformStore:
    """Transforms in a folder; without a folder nothing is kept. `code` is a file that decides what they are."""

    def __init__(self, folder: str | Path | None, kind: str, code: str | Path) -> None:
        self.folder = None if folder is None else Path(folder)
        self._prefix = f"{kind}-{hashlib.sha256(Path(code).read_bytes()).hexdigest()[:16]}"

    def get(
        self, support: str, target: str, register: Callable[[], tuple[sitk.Transform, float]]
    ) -> tuple[sitk.Transform, float]:
        """Transform between the scans of two fingerprints, and the seconds that it took when it was computed."""
        if self.folder is None:
            return register()
        file = self.folder / f"{self._prefix}-{support}-{target}.tfm"
        noted = file.with_suffix(".json")
        if file.is_file() and noted.is_file():
            try:
                return sitk.ReadTransform(str(file)), float(json.loads(noted.read_text(encoding="utf-8"))["seconds"])
            except (RuntimeError, ValueError, KeyError):
                noted.unlink(missing_ok=True)
        transform, seconds = register()
        with replacing(file) as unfinished:
            sitk.WriteTransform(transform, str(unfinished))
        write_text(noted, json.dumps({"seconds": seconds}))
        return transform, seconds
