"""Embedding maps as .nrrd files, and as the compact text that a library carries for each support.

The .nrrd holds an image with one component per channel and NaN outside the body; its header carries the model id, the
spacing, the exact index-to-RAS matrix and, as text, the coarse CT. The compact form holds 16-bit values of the body
cells only, of maps of three coordinates.
"""

import base64
import json
import math
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import MapError, ScanError
from APELocalizerLib.core.base.files import replacing
from APELocalizerLib.core.base.geometry import RAS_LPS, Box, spacing_of, stored_grid, stored_shape, triple
from APELocalizerLib.core.base.packed import load_json, unpack
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.coordinate_space import UNKNOWN_REFERENCE, CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.core.scan.nrrd import read_vectors

HEADER_KEY = "APELocalizer"
COARSE_CT_KEY = "APELocalizer_coarse_ct"
FORMAT = "APELocalizer embedding map"
VERSION = 1
LEVELS = 65535
PASS_SEPARATOR = ";"
MOST_MM = 1e6
"""No coordinate and no field of view is larger."""


def save_map(embedding_map: EmbeddingMap, path: str | Path) -> None:
    """Write the map as .nrrd (float32, one component per channel, gzip), atomically: an existing file is replaced only
    by a complete one. Raises `MapError` for another file ending and where it cannot be written."""
    path = Path(path)
    if path.suffix.lower() != ".nrrd":
        raise MapError(f"Embedding maps are saved as .nrrd files; {path.name} has another ending.")
    values = np.where(embedding_map.body[..., None], embedding_map.values, np.nan).astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0, 3)), isVector=True)
    lps = RAS_LPS @ embedding_map.grid_to_ras
    spacing = spacing_of(lps)
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([float(x) for x in lps[:3, 3]])
    image.SetDirection([float(x) for x in (lps[:3, :3] / spacing).ravel()])
    image.SetMetaData(HEADER_KEY, json.dumps(_header(embedding_map)))
    if embedding_map.coarse_ct is not None:
        image.SetMetaData(COARSE_CT_KEY, embedding_map.coarse_ct.to_text())
    try:
        with replacing(path) as beside:
            sitk.WriteImage(image, str(beside), useCompression=True)
    except (RuntimeError, OSError) as error:
        raise MapError(f"The map cannot be written to {path}. Check free space and write permission.") from error


def load_map(path: str | Path) -> EmbeddingMap:
    """Read a map that `save_map` wrote."""
    path = Path(path)
    if not path.is_file():
        raise MapError(f"The embedding map {path} does not exist.")
    try:
        values, texts = read_vectors(path)
    except ScanError as error:
        raise MapError(f"{path.name} cannot be read, so it is not an embedding map. {error}") from error
    if HEADER_KEY not in texts:
        raise MapError(f"{path.name} is an image, but not an embedding map written by APELocalizer.")
    try:
        header = load_json(texts[HEADER_KEY])
        _check_format(header, path.name)
        values = np.ascontiguousarray(values, dtype=np.float32)
        body = np.isfinite(values).all(axis=-1)
        coarse_ct = CoarseCT.from_text(texts[COARSE_CT_KEY]) if texts.get(COARSE_CT_KEY) else None
        return _from_header(header, np.where(body[..., None], values, 0), body).with_coarse_ct(coarse_ct)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise MapError(f"The header of {path.name} is damaged. Compute the map again.") from error


def to_compact(embedding_map: EmbeddingMap) -> str:
    """Encode the map as text: body bits and 16-bit values (step under 0.02 mm), compressed, base64.

    Of a map with several passes these are encoded, joined by ";"; their mean is made again on reading. Raises
    `MapError` for a map of other than three channels.
    """
    embedding_map.check_coordinates()
    return PASS_SEPARATOR.join(_to_compact(single) for single in embedding_map.passes or (embedding_map,))


def from_compact(text: str) -> EmbeddingMap:
    """Decode what `to_compact` wrote."""
    return mean_of_passes([_from_compact(part) for part in text.split(PASS_SEPARATOR)])


def _to_compact(embedding_map: EmbeddingMap) -> str:
    inside = embedding_map.values[embedding_map.body].astype(np.float64)
    low, high = inside.min(axis=0), inside.max(axis=0)
    step = np.maximum(high - low, 1e-6) / LEVELS
    levels = np.round((inside - low) / step).astype("<u2")
    header = _header(embedding_map)
    header |= {"shape": list(embedding_map.body.shape), "low": low.tolist(), "step": step.tolist()}
    # neighboring cells differ little, so differences compress better than values
    differences = np.diff(levels.T, axis=1, prepend=np.uint16(0)).astype("<u2")
    payload = json.dumps(header).encode() + b"\n" + np.packbits(embedding_map.body).tobytes() + differences.tobytes()
    return base64.b64encode(zlib.compress(payload, 9)).decode("ascii")


def _from_compact(text: str) -> EmbeddingMap:
    try:
        header, data = unpack(text, _most_bytes)
        _check_format(header, "the library's support map")
        shape = stored_shape(header["shape"])
        count = math.prod(shape)
        bits = -(-count // 8)
        body = np.unpackbits(np.frombuffer(data[:bits], np.uint8), count=count).astype(bool).reshape(shape)
        differences = np.frombuffer(data[bits:], "<u2").reshape(3, int(body.sum()))
        levels = np.cumsum(differences, axis=1, dtype=np.uint16).T
        values = np.zeros((*shape, 3), dtype=np.float32)
        values[body] = _three(header["low"]) + levels * _three(header["step"])
        return _from_header(header, values, body)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise MapError("A support map inside the library is damaged. Open another copy.") from error


def _header(embedding_map: EmbeddingMap) -> dict:
    header = {
        "format": FORMAT,
        "version": VERSION,
        "checkpoint_id": embedding_map.model_id,
        "spacing": embedding_map.spacing,
        "grid_to_ras": np.asarray(embedding_map.grid_to_ras).tolist(),
        "field_of_view": [embedding_map.field_of_view.minimum, embedding_map.field_of_view.maximum],
        "scan_name": embedding_map.scan_name,
        "scan_fingerprint": embedding_map.scan_fingerprint,
        "notes": list(embedding_map.notes),
        "aligned": embedding_map.space.aligned,
    }
    if any(embedding_map.left_out_mm):
        header["left_out_mm"] = list(embedding_map.left_out_mm)
    if embedding_map.space.aligned_with not in (None, UNKNOWN_REFERENCE):
        header["aligned_with"] = embedding_map.space.aligned_with
    return header


def _most_bytes(header: dict) -> int:
    """Bytes of the compact form's data where every cell lies in the body."""
    count = math.prod(stored_shape(header["shape"]))
    return -(-count // 8) + 3 * 2 * count


def _three(values: object) -> np.ndarray:
    """Three finite numbers as a file holds them; raises ValueError for anything else."""
    numbers = np.array(values, dtype=np.float64)
    if numbers.shape != (3,) or not np.abs(numbers).max() < MOST_MM:
        raise ValueError(f"{str(values)[:40]} is not three numbers")
    return numbers


def _check_format(header: object, where: str) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise MapError(f"{where} is not an embedding map written by APELocalizer.")
    version = header.get("version", 0)
    if type(version) is not int or version < 0:
        raise MapError(f"The header of {where} is damaged. Compute the map again.")
    if version > VERSION:
        raise MapError(f"{where} was written by a newer APELocalizer. Update the extension to read it.")


def _from_header(header: dict, values: np.ndarray, body: np.ndarray) -> EmbeddingMap:
    return EmbeddingMap(
        values=values.astype(np.float32),
        body=body,
        grid_to_ras=stored_grid(header["grid_to_ras"]),
        space=_space(header),
        spacing=_text(header["spacing"]),
        field_of_view=_box(header["field_of_view"]),
        scan_name=_text(header["scan_name"]),
        scan_fingerprint=_text(header["scan_fingerprint"]),
        notes=tuple(_text(note) for note in header["notes"]),
        left_out_mm=_left_out(header.get("left_out_mm", [0.0, 0.0])),
    )


def _space(header: dict) -> CoordinateSpace:
    """What the map's values mean. The oldest files do not say whether they are aligned: they are not."""
    reference = header.get("aligned_with", UNKNOWN_REFERENCE) if header.get("aligned") else None
    if reference is not None and not isinstance(reference, str):
        raise TypeError("aligned_with is no text")
    return CoordinateSpace(_text(header["checkpoint_id"]), reference)


def _box(values: object) -> Box:
    if not isinstance(values, list) or len(values) != 2:
        raise ValueError("it holds no field of view")
    return Box(triple(_three(values[0])), triple(_three(values[1])))


def _left_out(values: object) -> tuple[float, float]:
    above, below, _ = _three([*values, 0.0] if isinstance(values, list) else values)
    if min(above, below) < 0:
        raise ValueError("it left out less than nothing")
    return float(above), float(below)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]} is no text")
    return value
