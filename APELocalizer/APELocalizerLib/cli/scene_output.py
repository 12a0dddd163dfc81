"""The --scene option: results as a scene that 3D Slicer opens, and one picture of it."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.core.base.errors import SceneError

if TYPE_CHECKING:
    from APELocalizerLib.app.runs import WriteMore
    from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.core.localization.answers import Localization
    from APELocalizerLib.core.scan.scan import Scan


def check_scene_possible() -> None:
    """Raise SceneError if the packages for scenes are not installed."""
    if find_spec("slicer") is None or find_spec("vtk") is None:
        raise SceneError('--scene needs the packages slicer-core and vtk: pip install ".[slicer]".')


def scene_writer(library: "LandmarkLibrary") -> "WriteMore":
    """Return what writes scene.mrb (scan, landmarks, boxes, table, map, library) and views.png (three slice views)."""

    def write(scan: "Scan", localization: "Localization", embedding_map: "EmbeddingMap", folder: Path) -> None:
        from APELocalizerLib.scene.headless import add_volume, open_headless_scene, save_scene
        from APELocalizerLib.scene.privacy import without_coarse_ct
        from APELocalizerLib.scene.results import show_localization
        from APELocalizerLib.scene.snapshot import render_views
        from APELocalizerLib.scene.state import save_state

        with open_headless_scene() as headless:
            volume = add_volume(scan.voxels, scan.ijk_to_ras, scan.name)
            nodes = show_localization(volume, localization, embedding_map)
            settings = {"spacing": localization.spacing, "rule": localization.rule}
            # The library is a file, too: its coarse copies of the support CTs stay there.
            save_state(headless.scene, without_coarse_ct(library), settings, localization.model_id)
            render_views(volume, nodes, folder / "views.png", overlay_node=nodes.overlay_node)
            save_scene(folder / "scene.mrb")

    return write
