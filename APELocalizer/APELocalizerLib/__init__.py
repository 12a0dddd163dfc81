"""Find anatomical landmarks and organs on CT, without Slicer's window.

Mark landmarks on one scan, find them on any other::

    from APELocalizerLib import Engine, Marks, read_points, read_scan

    engine = Engine()
    support, scan = read_scan("support_ct.nii.gz"), read_scan("target_ct.nii.gz")
    library = engine.learn(support, Marks(points=read_points("support_points.csv"))).library
    for point in engine.localize(scan, library).points:
        print(point.name, point.status, point.position_ras)

Names are loaded when they are first used, so that importing this package loads nothing else.
"""

PUBLIC = {
    "Engine": "app.engine",
    "EngineSettings": "app.engine",
    "APELocalizerError": "core.base.errors",
    "Correspondence": "core.localization.correspondence",
    "LocalizationSettings": "core.localization.localize",
    "Marks": "core.library.marks",
    "open_library": "core.library.files",
    "save_library": "core.library.files",
    "read_boxes": "core.annotations.marks",
    "read_points": "core.annotations.marks",
    "read_scan": "core.scan.read",
    "save_map": "core.embedding.map_files",
    "write_results": "core.localization.write",
}
"""What is meant for use from outside, and where it lives."""

__all__ = list(PUBLIC)


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    from importlib import import_module

    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *PUBLIC]
