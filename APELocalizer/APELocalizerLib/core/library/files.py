"""Landmark libraries as JSON files; the format is described in `Resources/Libraries/landmark-library.schema.json`."""

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from APELocalizerLib.core.base.errors import LibraryError, MapError
from APELocalizerLib.core.base.files import write_text
from APELocalizerLib.core.base.locks import locked
from APELocalizerLib.core.base.packed import load_json
from APELocalizerLib.core.library.built_in import library_file
from APELocalizerLib.core.library.entries import Code, Landmark, Organ, OrganShot, Shot
from APELocalizerLib.core.library.library import LandmarkLibrary, Support

FORMAT = "APELocalizer landmark library"
VERSION = 1
SCHEMA = (
    "https://raw.githubusercontent.com/APELocalizer/SlicerAPELocalizer/main/APELocalizer/Resources/Libraries/"
    "landmark-library.schema.json"
)

DAMAGED = "The file is damaged. Open another copy."


def to_json(library: LandmarkLibrary) -> str:
    """The library as JSON text. Numbers keep their full precision, so reading it back gives an equal library."""
    content = {
        "$schema": SCHEMA,
        "format": FORMAT,
        "version": VERSION,
        "checkpoint_id": library.model_id,
        "coordinate_system": "RAS",
        "units": "mm",
        "landmarks": [_entry(e, [_shot(s, library) for s in e.shots]) for e in library.landmarks],
        "organs": [{**_entry(e, [_organ_shot(s, library) for s in e.shots]), "alpha": e.alpha} for e in library.organs],
        "supports": [
            {"id": s.id, "name": s.name, "map": s.compact_map, "coarse_ct": s.coarse_ct} for s in library.supports
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)


def from_json(text: str) -> LandmarkLibrary:
    """Read a library; raises `LibraryError` for anything that is not a consistent library of a known version."""
    try:
        content = load_json(text)
    except ValueError as error:
        raise LibraryError(f"This is not a landmark library: it is not valid JSON ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LibraryError("This is a JSON file, but not a landmark library of APELocalizer.")
    version = content.get("version")
    if type(version) is not int or version < 1:
        raise LibraryError(f"This library names no valid version ({version!r}). {DAMAGED}")
    if version > VERSION:
        raise LibraryError(
            f"This library has version {version}, but this APELocalizer reads up to version {VERSION}. "
            "Update the extension."
        )
    try:
        library = LandmarkLibrary(
            model_id=content["checkpoint_id"],
            landmarks=tuple(
                Landmark(**_common(e), shots=tuple(_read_shot(s, content) for s in e["shots"]))
                for e in content["landmarks"]
            ),
            organs=tuple(
                Organ(**_common(e), alpha=e["alpha"], shots=tuple(_read_organ_shot(s, content) for s in e["shots"]))
                for e in content["organs"]
            ),
            supports=tuple(
                Support(_text(s["id"]), _text(s["name"]), s["map"], s.get("coarse_ct", "")) for s in content["supports"]
            ),
        )
        _check_supports(library)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise LibraryError(f"This landmark library is incomplete or damaged (at {str(error)[:60]}).") from error
    except MapError as error:
        raise LibraryError(str(error)) from error
    return library


def save_library(library: LandmarkLibrary, path: str | Path) -> None:
    """Write the library, atomically: an existing file is replaced only by a complete one."""
    write_text(path, to_json(library))


@contextmanager
def library_lock(path: str | Path) -> Iterator[None]:
    """Keep other programs from changing a library file, from reading it until it is saved.

    Whoever adds to a library reads it, adds and saves it within; else the last one to save undoes what others added.
    Raises `LibraryError` if another program does not let go of the file, or nothing can be written beside it.
    """
    name = Path(path).name
    with ExitStack() as held:
        try:
            held.enter_context(locked(path))
        except TimeoutError as error:
            raise LibraryError(
                f"{name} is being changed by another program. Nothing was changed: try again when that has ended."
            ) from error
        except OSError as error:
            raise LibraryError(f"{name} cannot be saved ({error.strerror}). Check write permission.") from error
        yield


def open_library(name_or_path: str | Path) -> LandmarkLibrary:
    """Read a library file, or the library that comes with the extension for the name "built-in"."""
    return load_library(library_file(name_or_path))


def load_library(path: str | Path) -> LandmarkLibrary:
    """Read a library file; raises `LibraryError` naming the file."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LibraryError(f"The library file {path} does not exist.") from error
    except PermissionError as error:
        raise LibraryError(f"You have no permission to read the library file {path.name}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LibraryError(f"The library file {path.name} cannot be read as text.") from error
    try:
        return from_json(text)
    except LibraryError as error:
        raise LibraryError(f"{path.name}: {error}") from error


def _check_supports(library: LandmarkLibrary) -> None:
    """Every support must decode and be of the library's model and of one space: mixed files are refused at once."""
    for support in library.supports:
        if support.map.model_id != library.model_id:
            raise LibraryError(
                f'The support "{support.name}" was embedded with the model {support.map.model_id}, but the '
                f"library names {library.model_id}. Embeddings of different models cannot be mixed."
            )
    _ = library.space  # raises where supports were aligned with different references


def _entry(entry: Landmark | Organ, shots: list[dict]) -> dict:
    code = None
    if entry.code is not None:
        code = {"scheme": entry.code.scheme, "value": entry.code.value, "meaning": entry.code.meaning}
    return {
        "name": entry.name,
        "code": code,
        "description": entry.description,
        "color": list(entry.color),
        "shots": shots,
    }


def _shot(shot: Shot, library: LandmarkLibrary) -> dict:
    return {
        "support_id": shot.support_id,
        "position_ras": list(shot.position_ras),
        "embedding": list(shot.embedding),
        "checkpoint_id": library.model_id,
        "date": shot.date,
    }


def _organ_shot(shot: OrganShot, library: LandmarkLibrary) -> dict:
    return {
        "support_id": shot.support_id,
        "edge_points_ras": [list(p) for p in shot.extreme_points_ras],
        "embeddings": [list(p) for p in shot.embeddings],
        "checkpoint_id": library.model_id,
        "date": shot.date,
    }


def _common(entry: dict) -> dict:
    code = entry.get("code")
    return {
        "name": entry["name"],
        "code": Code(code["scheme"], code["value"], code["meaning"]) if code else None,
        "description": _text(entry.get("description", "")),
        "color": tuple(entry["color"]),
    }


def _read_shot(shot: dict, content: dict) -> Shot:
    _check_shot(shot, content)
    return Shot(shot["support_id"], _numbers(shot["position_ras"]), _numbers(shot["embedding"]), _text(shot["date"]))


def _read_organ_shot(shot: dict, content: dict) -> OrganShot:
    _check_shot(shot, content)
    return OrganShot(
        shot["support_id"],
        tuple(_numbers(p) for p in shot["edge_points_ras"]),
        tuple(_numbers(p) for p in shot["embeddings"]),
        _text(shot["date"]),
    )


def _check_shot(shot: dict, content: dict) -> None:
    if shot["checkpoint_id"] != content["checkpoint_id"]:
        raise LibraryError(
            f"The library mixes landmarks of the models {content['checkpoint_id']} and {shot['checkpoint_id']}. "
            "Embeddings of different models cannot be compared."
        )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise LibraryError(f"The library holds {value} where text is needed. {DAMAGED}")
    return value


def _numbers(values: list) -> tuple:
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        raise LibraryError(f"The library holds {values} where three numbers are needed. {DAMAGED}")
    return tuple(values)
