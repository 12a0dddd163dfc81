"""`ape-localizer info`: say what a file is: a scan, a library, a model or an anatomical map."""

import argparse
from pathlib import Path

from APELocalizerLib.cli.console import Console
from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.library.built_in import BUILT_IN, library_file

MODEL_ENDINGS = (".pt", ".pth", ".ckpt")


def add_parser(subparsers) -> None:
    """Add this subcommand."""
    parser = subparsers.add_parser(
        "info",
        help="describe a scan, library, model or map",
        description="Describe FILE: a CT scan (file or DICOM folder), a library (.json), a model (.pt, or an id of "
        "`ape-localizer models`), an anatomical map (.nrrd), or built-in: the library that comes with APELocalizer.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="file, DICOM folder or model id")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Describe the file."""
    for key, value in describe(arguments.file):
        console.result(f"{key + ':':18} {value}")
    return 0


def describe(path: Path) -> list[tuple[str, str]]:
    """Return what there is to say about a file, as pairs of a heading and a text."""
    if str(path) == BUILT_IN:
        return _library(library_file(path))
    if path.suffix.lower() in MODEL_ENDINGS or (not path.exists() and _is_model_id(str(path))):
        return _model(path)
    if not path.exists():
        raise ScanError(f"{path} does not exist. Check the path.")
    if path.suffix.lower() == ".json":
        return _library(path)
    return _map(path) if _is_map(path) else _scan(path)


def _is_model_id(name: str) -> bool:
    from APELocalizerLib.core.model.registry import registry

    return name in [entry.id for entry in registry()]


def _is_map(path: Path) -> bool:
    if path.suffix.lower() != ".nrrd":
        return False
    import SimpleITK as sitk

    from APELocalizerLib.core.embedding.map_files import HEADER_KEY

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ScanError(f"{path} cannot be read as an image. Is the file complete?") from error
    return reader.HasMetaDataKey(HEADER_KEY)


def _model(path: Path) -> list[tuple[str, str]]:
    from APELocalizerLib.core.model.registry import load_model

    model = load_model(path)
    count = sum(tensor.numel() for tensor in model.state.values())
    presets = [f"{name} {' + '.join(map(_times, passes))} mm" for name, passes in model.presets.items()]
    return [
        ("kind", "model"),
        ("id", model.id),
        ("parameters", f"{count / 1e6:.2f} million"),
        ("spacings", "; ".join(presets)),
        ("coordinates", "R, A, S mm of an average patient" if model.anchored else "arbitrary axes"),
        ("not found beyond", f"{model.round_trip_threshold_mm:g} mm round trip"),
        ("trained on", model.training_data or "not stated"),
        ("license", model.license or "not stated"),
        ("cite", model.citation or "not stated"),
    ]


def _library(path: Path) -> list[tuple[str, str]]:
    from APELocalizerLib.core.library.files import load_library

    library = load_library(path)
    lines = [
        ("kind", "landmark library"),
        ("model", library.model_id or "none yet"),
        ("supports", ", ".join(support.name for support in library.supports) or "none"),
    ]
    if library.space is not None:
        lines.append(("coordinates", library.space.in_words()))
    for kind, entries in (("landmark", library.landmarks), ("organ", library.organs)):
        for entry in entries:
            shots = f"{len(entry.shots)} shot{'s' if len(entry.shots) != 1 else ''}"
            code = f", {entry.code.scheme} {entry.code.value}" if entry.code else ""
            lines.append((kind, f"{entry.name} ({shots}{code})"))
    return lines


def _map(path: Path) -> list[tuple[str, str]]:
    from APELocalizerLib.core.base.geometry import spacing_of
    from APELocalizerLib.core.embedding.map_files import load_map

    embedding_map = load_map(path)
    return [
        ("kind", "anatomical map"),
        ("scan", embedding_map.scan_name),
        ("model", embedding_map.model_id),
        ("spacing", embedding_map.spacing),
        ("cells", f"{_times(embedding_map.body.shape)} of {_times(spacing_of(embedding_map.grid_to_ras))} mm"),
        ("coordinates", embedding_map.space.in_words()),
        *_bounds(embedding_map.field_of_view),
    ]


def _scan(path: Path) -> list[tuple[str, str]]:
    from APELocalizerLib.core.scan.read import read_scan

    scan = read_scan(path)
    values = f"{scan.voxels.min():g} to {scan.voxels.max():g} HU"
    return [
        ("kind", "CT scan"),
        ("name", scan.name),
        ("voxels", f"{_times(scan.voxels.shape)} of {_times(scan.spacing)} mm"),
        ("values", values),
        *_bounds(scan.bounds()),
        *(("warning", warning) for warning in scan.warnings),
    ]


def _bounds(box) -> list[tuple[str, str]]:
    sides = zip("RAS", box.minimum, box.maximum, strict=True)
    return [("field of view", ", ".join(f"{axis} {low:.0f} to {high:.0f} mm" for axis, low, high in sides))]


def _times(values) -> str:
    return " x ".join(f"{round(float(value), 2):g}" for value in values)
