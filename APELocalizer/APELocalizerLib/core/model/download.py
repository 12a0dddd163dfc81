"""Getting a file from a server into a part file that grows until it is whole; nothing here runs unless it is asked for.

Only what was asked for is believed: no redirect to a connection that others can change, and no more bytes than a model
can have.
"""

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import urlsplit

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report

CHUNK_BYTES = 1 << 20
"""Bytes that are read at once."""

TIMEOUT_S = 60
"""How long a server may be silent."""

MOST_BYTES = 1 << 30
"""No model file is larger; what goes beyond is not downloaded."""

OpenUrl = Callable[..., Any]
"""Opens a request as `urllib.request.urlopen` does."""


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a server's redirect to another address only by https, or by http where http was asked for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request to the new address. Raises `ModelError` for one that is less safe."""
        if urlsplit(newurl).scheme not in {"https", urlsplit(req.full_url).scheme} - {"ftp", "file"}:
            raise ModelError(
                f"The server sends the download on to an address that is not safe ({newurl[:100]}). Nothing was "
                "downloaded. Download the file elsewhere and choose it."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    part: Path,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
    open_url: OpenUrl | None = None,
    most: int = MOST_BYTES,
) -> None:
    """Append to `part` what is missing of the file at `url`, at most `most` bytes in all.

    Proxies are taken from the environment. Raises `ModelError` for whatever the server or the network does, and
    `Cancelled`; what came so far stays, unless it is too much.
    """
    try:
        total = _append(url, part, progress, cancelled, open_url or _opener().open, most)
    except urllib.error.HTTPError as error:
        if error.code == 416 and part.exists():  # the part is as long as the file, or longer: start anew
            part.unlink()
            return download(url, part, progress, cancelled, open_url, most)
        raise ModelError(f"The server refused the download ({error.code} {error.reason}): {url}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise ModelError(
            f"The download was interrupted ({error}). Try again: it continues where it stopped. Behind a proxy, set "
            f"HTTPS_PROXY; without a network, download {url} elsewhere and choose the file."
        ) from error
    if total is not None and part.stat().st_size != total:
        raise ModelError("The download ended early. Try again: it continues where it stopped.")


def copy(source: Path, part: Path, progress: Progress | None = None, cancelled: CancelCheck | None = None) -> None:
    """Copy a file from elsewhere to `part`. Raises `ModelError` if there is none, and `Cancelled`."""
    if not source.is_file():
        raise ModelError(f"The file {source} does not exist.")
    part.unlink(missing_ok=True)
    size = source.stat().st_size
    with source.open("rb") as stream:
        _write(stream, part, size, progress, cancelled, size)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(SafeRedirects)


def _append(
    url: str, part: Path, progress: Progress | None, cancelled: CancelCheck | None, open_url: OpenUrl, most: int
) -> int | None:
    """Bytes that the whole file has, where the server says so."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with open_url(request, timeout=TIMEOUT_S) as response:
        if done and getattr(response, "status", 200) != 206:
            part.unlink()
            done = 0
        length = str(response.headers.get("Content-Length") or "").strip()
        total = done + int(length) if re.fullmatch("[0-9]{1,15}", length) else None
        if total is not None and total > most:
            part.unlink(missing_ok=True)
            raise _too_large(url, most)
        if not _write(response, part, total, progress, cancelled, most):
            part.unlink()
            raise _too_large(url, most)
    return total


def _too_large(url: str, most: int) -> ModelError:
    return ModelError(f"What {url} sends is larger than a model ({most / 1e6:.0f} MB), so it was not kept.")


def _write(
    stream: BinaryIO,
    part: Path,
    total: int | None,
    progress: Progress | None,
    cancelled: CancelCheck | None,
    most: int,
) -> bool:
    """Append the stream to the part file; whether it ended within `most` bytes."""
    with part.open("ab") as file:
        done = file.tell()
        while block := stream.read(CHUNK_BYTES):
            check_cancelled(cancelled)
            if done + len(block) > most:
                return False
            file.write(block)
            done += len(block)
            report(progress, done / total if total else 0.0, f"{done / 1e6:.0f} MB downloaded")
    return True
