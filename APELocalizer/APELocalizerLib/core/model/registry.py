"""Known models: what they are, under which license, and how to get them.

Nothing here uses the network except `fetch`, which is called only on a user's explicit request. Files are looked for
in this order: the folder named by the environment variable APELOCALIZER_MODELS, the user's cache, the extension.
"""

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report
from APELocalizerLib.core.base.resources import resources_folder
from APELocalizerLib.core.model.model import Model
from APELocalizerLib.core.model.model_files import read_model

MODELS_VARIABLE = "APELOCALIZER_MODELS"
RESOURCES = resources_folder()
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60

PUBLISHED_REVISION = "a743d914ca8ba47d4e7371c6906c40c976437685"
PUBLISHED_CITATION = "Goncharov M. et al., Anatomical Positional Embeddings, arXiv:2409.10291 (2024)"


@dataclass(frozen=True)
class RegistryEntry:
    """A model that can be named. `url` is None for the embedded one; `sha256` None means recorded at download."""

    id: str
    title: str
    file_name: str
    license: str
    citation: str
    training_data: str
    size_bytes: int | None
    sha256: str | None
    url: str | None = None


def _embedded_card() -> dict:
    path = RESOURCES / "Models" / "default.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def registry() -> tuple[RegistryEntry, ...]:
    """All known models, the embedded default first."""
    card = _embedded_card()
    return (
        RegistryEntry(
            id="default",
            title="APELocalizer default (embedded)",
            file_name="default.pt",
            license=card.get("licence", "MIT"),
            citation=card.get("citation", PUBLISHED_CITATION),
            training_data=card.get("training_data", ""),
            size_bytes=card.get("size_bytes"),
            sha256=card.get("sha256"),
        ),
        RegistryEntry(
            id="ape-published",
            title="APE published (Hugging Face mishgon/ape)",
            file_name="ape.pt",
            license="MIT as published; AbdomenAtlas 1.0 Mini, one of its training sets, is CC BY-NC-SA 4.0",
            citation=PUBLISHED_CITATION,
            training_data="NLST, AMOS CT, AbdomenAtlas 1.0 Mini",
            size_bytes=None,
            sha256=None,
            url=f"https://huggingface.co/mishgon/ape/resolve/{PUBLISHED_REVISION}/ape.pt",
        ),
    )


def entry(model_id: str) -> RegistryEntry:
    """The registry entry of that id; raises `ModelError` naming the known ones."""
    for each in registry():
        if each.id == model_id:
            return each
    known = ", ".join(each.id for each in registry())
    raise ModelError(f'There is no model "{model_id}". Known models: {known}; or give a model file\'s path.')


def cache_folder() -> Path:
    """Folder for downloaded weights: outside Slicer, so that an update does not delete them."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "APELocalizer"


def find_file(model_id: str) -> Path | None:
    """Where the model's file lies on this computer, or None if it has not been downloaded."""
    known = entry(model_id)
    folders = [cache_folder(), RESOURCES / "Models"]
    if os.environ.get(MODELS_VARIABLE):
        folders.insert(0, Path(os.environ[MODELS_VARIABLE]))
    for folder in folders:
        if (folder / known.file_name).is_file():
            return folder / known.file_name
    return None


def load_model(id_or_path: str | Path = "default") -> Model:
    """Model by registry id or file path. Never downloads.

    Raises `ModelError` if the weights are not there (saying how to get them), are damaged, or differ from the
    hash recorded for them.
    """
    ids = {each.id for each in registry()}
    if str(id_or_path) not in ids:
        path = Path(id_or_path)
        if not path.exists() and path.suffix == "" and len(path.parts) == 1:
            entry(str(id_or_path))
        return read_model(path)
    known = entry(str(id_or_path))
    present = find_file(known.id)
    if present is None:
        way = "Install the extension again"
        if known.url is not None:
            way = f"Download them (ape-localizer models --fetch {known.id}, or the button in the panel)"
        raise ModelError(
            f"The weights of {known.title} are not on this computer. {way}, or put {known.file_name} into the folder "
            f"named by {MODELS_VARIABLE}."
        )
    _check_hash(present, known)
    return read_model(present)


def fetch(
    model_id: str,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
    offline_file: str | Path | None = None,
    open_url: Callable[..., Any] = urllib.request.urlopen,
) -> Path:
    """Download a model into the cache, or take `offline_file` instead; returns the file.

    Call it only when the user asked for it. An interrupted download resumes; the file appears under its name only when
    it is complete and has been read as a model. Its hash is recorded at the first download and checked ever after.
    Proxies are taken from the environment (HTTPS_PROXY). `open_url` is replaced in tests.
    """
    known = entry(model_id)
    if known.url is None:
        raise ModelError(f"{known.title} comes with the extension; there is nothing to download.")
    target = cache_folder() / known.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    if offline_file is not None:
        _copy(Path(offline_file), part, progress, cancelled)
    else:
        _download(known.url, part, progress, cancelled, open_url)
    try:
        _check_hash(part, known)
        read_model(part)
    except ModelError:
        part.unlink()
        raise
    record = _record_path(known)
    if not record.exists():
        record.write_text(json.dumps({"sha256": sha256_of(part), "size_bytes": part.stat().st_size}), encoding="utf-8")
    os.replace(part, target)
    return target


def remove(model_id: str) -> None:
    """Delete a downloaded model from the cache (its recorded hash is kept)."""
    (cache_folder() / entry(model_id).file_name).unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _record_path(known: RegistryEntry) -> Path:
    return cache_folder() / f"{known.file_name}.sha256.json"


def _check_hash(path: Path, known: RegistryEntry) -> None:
    expected = known.sha256
    record = _record_path(known)
    if expected is None and record.is_file():
        try:
            expected = json.loads(record.read_text(encoding="utf-8"))["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"The recorded hash in {record} is damaged. Delete it and {path}.") from error
    if expected is not None and sha256_of(path) != expected:
        raise ModelError(
            f"The weights of {known.title} ({path}) differ from those recorded for it: the file is damaged or was "
            "replaced. Delete it and get it again."
        )


def _copy(source: Path, part: Path, progress: Progress | None, cancelled: CancelCheck | None) -> None:
    if not source.is_file():
        raise ModelError(f"The file {source} does not exist.")
    part.unlink(missing_ok=True)
    with source.open("rb") as stream:
        _write(stream, part, source.stat().st_size, progress, cancelled)


def _download(
    url: str,
    part: Path,
    progress: Progress | None,
    cancelled: CancelCheck | None,
    open_url: Callable[..., Any],
) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with open_url(request, timeout=TIMEOUT_S) as response:
            if done and getattr(response, "status", 200) != 206:
                part.unlink()
                done = 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else None
            _write(response, part, total, progress, cancelled)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # the part is as long as the file, or longer: start anew
            part.unlink()
            return _download(url, part, progress, cancelled, open_url)
        raise ModelError(f"The server refused the download ({error.code} {error.reason}): {url}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise ModelError(
            f"The download was interrupted ({error}). Try again: it continues where it stopped. Behind a proxy, set "
            f"HTTPS_PROXY; without a network, download {url} elsewhere and choose the file."
        ) from error
    if total is not None and part.stat().st_size != total:
        raise ModelError("The download ended early. Try again: it continues where it stopped.")


def _write(
    stream: BinaryIO, part: Path, total: int | None, progress: Progress | None, cancelled: CancelCheck | None
) -> None:
    """Append the stream to the part file."""
    with part.open("ab") as file:
        done = file.tell()
        while block := stream.read(CHUNK_BYTES):
            check_cancelled(cancelled)
            file.write(block)
            done += len(block)
            report(progress, done / total if total else 0.0, f"{done / 1e6:.0f} MB downloaded")
