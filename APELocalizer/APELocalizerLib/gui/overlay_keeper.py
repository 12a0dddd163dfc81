"""The overlays of a scan: made when first wanted, shown again when wanted again, never a user's own node. No Qt."""

import slicer
from slicer.i18n import tr as _

from APELocalizerLib.core.errors import LibraryError, SceneError
from APELocalizerLib.gui.engine import Engine
from APELocalizerLib.gui.tasks import RunSettings, scan_key


class OverlayKeeper:
    """Makes and shows the overlays "none", "rgb", "similarity", and 0, 1, 2 for a single channel (R, A, S)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: dict[tuple, object] = {}
        self._current = None

    def adopt(self, nodes) -> None:
        """Remember the overlay that a run has made."""
        if nodes.overlay_node is not None:
            scan = nodes.overlay_node.GetNodeReference("APELocalizer.scan")
            self._made[(scan.GetID(), "rgb", "")] = nodes.overlay_node

    def show(
        self,
        volume_node,
        kind: str | int,
        opacity: float = 0.4,
        settings: RunSettings = RunSettings(),
        library=None,
        landmark: str = "",
    ):
        """Show one overlay over the scan in all slices: its node, or None for "none".

        Raises SceneError if the scan is gone or was not localized with these settings yet, LibraryError for an
        unknown landmark.
        """
        from APELocalizerLib.scene.overlays import show_in_slices

        if volume_node is None:
            raise SceneError(_("The scan of this result is no longer in the scene."))
        node = None if kind == "none" else self._node(volume_node, kind, settings, library, landmark)
        slicer.util.setSliceViewerLayers(background=volume_node)
        show_in_slices(node, opacity)
        self._current = node
        return node

    def set_opacity(self, opacity: float) -> None:
        """Change the opacity of the overlay shown last."""
        from APELocalizerLib.scene.overlays import show_in_slices

        if self._current is not None and slicer.mrmlScene.IsNodePresent(self._current):
            show_in_slices(self._current, opacity)

    def forget(self) -> None:
        """The scene was closed."""
        self._made.clear()
        self._current = None

    def _node(self, volume_node, kind, settings: RunSettings, library, landmark: str):
        key = (volume_node.GetID(), kind, landmark)
        node = self._made.get(key)
        if node is None or not slicer.mrmlScene.IsNodePresent(node):
            self._remove_other_similarity(volume_node, kind)
            node = self._made[key] = self._make(volume_node, kind, settings, library, landmark)
        return node

    def _make(self, volume_node, kind, settings: RunSettings, library, landmark: str):
        from APELocalizerLib.scene import overlays

        found = self._engine.recall(scan_key(volume_node), settings.model, settings.spacing, settings.device)
        if found is None:
            raise SceneError(_("The map of this scan is not in memory. Press “Localize” to compute it."))
        if kind == "rgb":
            return overlays.add_rgb_overlay(volume_node, found, self._engine.checkpoint(settings.model).anchored)
        if kind == "similarity":
            return overlays.add_similarity_overlay(volume_node, found, mean_embedding(library, landmark), landmark)
        return overlays.add_channel_overlay(volume_node, found, kind)

    def _remove_other_similarity(self, volume_node, kind) -> None:
        if kind != "similarity":
            return
        for key in [key for key in self._made if key[:2] == (volume_node.GetID(), kind)]:
            node = self._made.pop(key)
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)


def mean_embedding(library, landmark: str) -> tuple[float, ...]:
    """Average embedding (3,) of a landmark's shots. Raises LibraryError if the library lacks it."""
    if library is None:
        raise LibraryError(_("The landmark library is empty. Open the one that was used."))
    shots = library.landmark(landmark).shots
    return tuple(sum(values) / len(shots) for values in zip(*(shot.embedding for shot in shots), strict=True))
