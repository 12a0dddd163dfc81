"""The overlays of a scan: made when first wanted, shown again when wanted again, never a user's own node. No Qt."""

import hashlib

import slicer
from slicer.i18n import tr as _

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.core.base.errors import LibraryError, SceneError
from APELocalizerLib.scene.nodes import VolumeNode
from APELocalizerLib.scene.references import MADE_OF_ATTRIBUTE, SCAN_REFERENCE
from APELocalizerLib.scene.run_settings import DEFAULT_SETTINGS, RunSettings, scan_key


class OverlayKeeper:
    """Makes and shows the overlays "none", "rgb", "similarity", and 0, 1, 2 for a single channel (R, A, S)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settings: dict[str, RunSettings] = {}
        self._folders: dict[str, int] = {}
        self._made: dict[tuple, object] = {}
        self._current = None

    def adopt(self, volume_node: VolumeNode, settings: RunSettings, nodes) -> None:
        """Remember how a scan was localized and the overlay that was made of it."""
        self._settings[volume_node.GetID()] = settings
        self._folders[volume_node.GetID()] = nodes.folder_item_id
        if nodes.overlay_node is not None:
            self._made[self._key(volume_node, "rgb", "")] = nodes.overlay_node
            nodes.overlay_node.SetAttribute(MADE_OF_ATTRIBUTE, _made_of(volume_node, settings))

    def rgb_of(self, volume_node: VolumeNode, settings: RunSettings) -> VolumeNode | None:
        """The RGB overlay that was made of the scan as it is now, with these settings, if it is still in the scene.

        It may be another keeper's: the panel and the console each have one.
        """
        wanted = _made_of(volume_node, settings)
        overlays = slicer.util.getNodesByClass("vtkMRMLVectorVolumeNode")
        return next((node for node in overlays if node.GetAttribute(MADE_OF_ATTRIBUTE) == wanted), None)

    def show(self, volume_node: VolumeNode, kind: str | int, opacity: float = 0.4, library=None, landmark: str = ""):
        """Show one overlay over the scan in all slices: its node, or None for "none".

        The similarity is that to the mean of a landmark's examples in the library. Raises SceneError if the scan is
        gone or its map is not in memory, LibraryError for an unknown landmark.
        """
        from APELocalizerLib.scene.overlays import show_in_slices
        from APELocalizerLib.scene.slice_views import rendering_paused, show_scan

        if volume_node is None:
            raise SceneError(_("The scan of this result is no longer in the scene."))
        with rendering_paused():
            node = None if kind == "none" else self._node(volume_node, kind, library, landmark)
            show_scan(volume_node)
            show_in_slices(node, opacity)
        self._current = node
        return node

    def bring_back(self, volume_node: VolumeNode) -> None:
        """Show a scan, and the overlay it had last, if another scan was put in front of it. None does nothing."""
        from APELocalizerLib.scene.slice_views import scans_in_view, show_scan

        if volume_node is None or volume_node in scans_in_view():
            return
        show_scan(volume_node)
        node = self._current
        if node is not None and slicer.mrmlScene.IsNodePresent(node):
            if node.GetNodeReference(SCAN_REFERENCE) is volume_node:
                slicer.util.setSliceViewerLayers(foreground=node)

    def set_opacity(self, opacity: float) -> None:
        """Change the opacity of the overlay shown last."""
        from APELocalizerLib.scene.overlays import show_in_slices

        if self._current is not None and slicer.mrmlScene.IsNodePresent(self._current):
            show_in_slices(self._current, opacity)

    def forget(self) -> None:
        """The scene was closed."""
        self._settings.clear()
        self._folders.clear()
        self._made.clear()
        self._current = None

    def _key(self, volume_node: VolumeNode, kind, landmark: str) -> tuple:
        return self._settings.get(volume_node.GetID(), DEFAULT_SETTINGS), scan_key(volume_node), kind, landmark

    def _node(self, volume_node: VolumeNode, kind, library, landmark: str):
        key = self._key(volume_node, kind, landmark)
        node = self._made.get(key) or (loaded_rgb_overlay(volume_node) if kind == "rgb" else None)
        if node is None or not slicer.mrmlScene.IsNodePresent(node):
            node = self._make(volume_node, kind, library, landmark)
            self._put_beside_results(node, volume_node)
            self._remove_other_similarity(volume_node, kind)
        self._made[key] = node
        return node

    def _make(self, volume_node: VolumeNode, kind, library, landmark: str):
        from APELocalizerLib.scene import overlays

        settings = self._settings.get(volume_node.GetID(), DEFAULT_SETTINGS)
        embedding_map = settings.engine(self._engine).recall(scan_key(volume_node), settings.spacing)
        if embedding_map is None:
            raise SceneError(_("The map of this scan is not in memory. Press “Localize” to compute it."))
        if kind == "rgb":
            return overlays.add_rgb_overlay(volume_node, embedding_map, settings.engine(self._engine).model.anchored)
        if kind == "similarity":
            query = mean_embedding(library, landmark)
            return overlays.add_similarity_overlay(volume_node, embedding_map, query, landmark)
        return overlays.add_channel_overlay(volume_node, embedding_map, int(kind))

    def _put_beside_results(self, node, volume_node: VolumeNode) -> None:
        """Move an overlay into the folder of the scan's last results, if that is still there."""
        from APELocalizerLib.scene.cleanup import subject_hierarchy
        from APELocalizerLib.scene.results import put_in_folder

        folder = self._folders.get(volume_node.GetID())
        if folder and subject_hierarchy().GetItemName(folder):
            put_in_folder(node, folder)

    def _remove_other_similarity(self, volume_node: VolumeNode, kind) -> None:
        """Keep one heat map per scan: there may be dozens of landmarks."""
        if kind != "similarity":
            return
        for key in [key for key in self._made if key[1][0] == volume_node.GetID() and key[2] == kind]:
            remove_volume(self._made.pop(key))


def _made_of(volume_node: VolumeNode, settings: RunSettings) -> str:
    """Digest of a scan as it is now, and of the settings that matter for its map."""
    text = f"{scan_key(volume_node)} {settings.spacing} {settings.model}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def remove_volume(node) -> None:
    """Remove a volume node with its display nodes."""
    if slicer.mrmlScene.IsNodePresent(node):
        displays = [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
        for removed in (node, *displays):  # the volume first: one without a display node is given a new one
            slicer.mrmlScene.RemoveNode(removed)


def overlay_ids() -> tuple[str, ...]:
    """Ids of overlays that look like a CT to a node selector: scalar volumes with a reference to their scan."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return tuple(node.GetID() for node in nodes if node.GetNodeReference(SCAN_REFERENCE) is not None)


def loaded_rgb_overlay(volume_node: VolumeNode) -> VolumeNode | None:
    """The color overlay that came with a loaded scene, or None."""
    overlays = slicer.util.getNodesByClass("vtkMRMLVectorVolumeNode")
    return next((node for node in overlays if node.GetNodeReference(SCAN_REFERENCE) is volume_node), None)


def mean_embedding(library, landmark: str) -> tuple[float, ...]:
    """Average embedding (3,) of a landmark's examples. Raises LibraryError if the library lacks it."""
    if library is None:
        raise LibraryError(_("The landmark library is empty. Open the one that was used."))
    shots = library.landmark(landmark).shots
    return tuple(sum(values) / len(shots) for values in zip(*(shot.embedding for shot in shots), strict=True))
