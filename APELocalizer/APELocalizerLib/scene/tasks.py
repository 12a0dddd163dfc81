"""The module's long tasks in three steps, so that no MRML is touched off the GUI thread and nothing is left half done.

Making a task reads the nodes (GUI thread), `run` computes (any thread), `finish` writes nodes (GUI thread). From a
Python console the three simply follow each other; see `do`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import slicer
from slicer.i18n import tr as _

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.core.base.errors import LibraryError, LocalizationError, SceneError
from APELocalizerLib.core.base.progress import CancelCheck, Progress, check_cancelled, report, sub_progress
from APELocalizerLib.scene.nodes import MarkupsNode, SegmentationNode, VolumeNode
from APELocalizerLib.scene.run_settings import RunSettings, scan_key

if TYPE_CHECKING:  # these load SimpleITK and torch, which opening the panel does not need
    from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
    from APELocalizerLib.core.library.library import LandmarkLibrary
    from APELocalizerLib.core.library.marks import Learned
    from APELocalizerLib.core.localization.answers import Localization
    from APELocalizerLib.scene.overlay_keeper import OverlayKeeper
    from APELocalizerLib.scene.results import ResultNodes

EMBEDDING_SHARE = 0.95
"""Part of a task that embedding takes, for the progress bar."""


Made = TypeVar("Made", covariant=True)


class Task(Protocol[Made]):
    """Made in the GUI thread, where it reads its nodes."""

    def run(self, progress: Progress | None = None, cancelled: CancelCheck | None = None) -> Any:
        """Compute; in any thread, without Qt and MRML."""

    def finish(self, computed: Any) -> Made:
        """Turn what `run` returned into nodes; in the GUI thread. All or nothing."""
        ...


def do(task: Task[Made], progress: Progress | None = None, cancelled: CancelCheck | None = None) -> Made:
    """The whole task at once, in this thread."""
    return task.finish(task.run(progress, cancelled))


class _ScanTask:
    """Reads one scan; the task's result is only used while the scan is still there and unchanged.

    `warnings` are sentences about the scan and, once the task is finished, about what it found or left out.
    """

    def __init__(self, engine: Engine, volume_node: VolumeNode, settings: RunSettings) -> None:
        from APELocalizerLib.scene.volumes import scan_from_volume_node

        scan = scan_from_volume_node(volume_node)
        self._engine, self._settings, self._node = settings.engine(engine), settings, volume_node
        self._name = volume_node.GetName()
        self._key = scan_key(volume_node)
        self.warnings = scan.warnings
        # A copy: the node's memory may change or go away while the worker reads.
        self._scan = dataclasses.replace(scan, voxels=scan.voxels.copy(order="K"))

    def _map(self, progress: Progress | None, cancelled: CancelCheck | None) -> EmbeddingMap:
        share = sub_progress(progress, 0.0, EMBEDDING_SHARE)
        return self._engine.map(self._scan, self._settings.spacing, self._key, share, cancelled)

    def _check_scan_is_unchanged(self) -> None:
        if not slicer.mrmlScene.IsNodePresent(self._node):
            raise SceneError(
                _("The scan “{name}” was removed while it was being processed, so nothing was added.").format(
                    name=self._name
                )
            )
        if scan_key(self._node) != self._key:
            raise SceneError(
                _("The scan “{name}” was changed or moved while it was being processed. Run it again.").format(
                    name=self._name
                )
            )


class LocalizeTask(_ScanTask):
    """Find a library's landmarks and organs on a scan; ends with the result nodes in the scene."""

    def __init__(
        self,
        engine: Engine,
        volume_node: VolumeNode | None,
        library: LandmarkLibrary | None,
        settings: RunSettings,
        overlay: bool = True,
        overlays: OverlayKeeper | None = None,
    ) -> None:
        """`overlay` also adds the RGB overlay, or uses again that of the same map; `overlays` is the `OverlayKeeper`
        that knows it, and is told of the new one."""
        if library is None or not library.names:
            raise LibraryError(_("The landmark library is empty. Learn a landmark from a support scan, or open one."))
        if volume_node is None:
            raise SceneError(_("Choose the scan on which the landmarks are to be found."))
        super().__init__(engine, volume_node, settings)
        self._library, self._overlay, self._overlays = library, overlay, overlays
        self.localization: Localization | None = None

    def run(
        self, progress: Progress | None = None, cancelled: CancelCheck | None = None
    ) -> tuple[Localization, EmbeddingMap]:
        """Read the scan and localize: (Localization, EmbeddingMap)."""
        report(progress, 0.0, _("Loading the model"))
        model = self._engine.model
        if self._library.model_id != model.id:  # said before the scan is embedded, not minutes later
            raise LocalizationError(
                _(
                    "The library was learned with the model {learned}, but {chosen} is chosen. "
                    "Choose the library's model under “Setup”, or learn the landmarks again."
                ).format(learned=self._library.model_id, chosen=model.id)
            )
        embedding_map = self._map(progress, cancelled)
        check_cancelled(cancelled)
        share = sub_progress(progress, EMBEDDING_SHARE, 1.0)
        localization = self._engine.localize(embedding_map, self._library, progress=share, cancelled=cancelled)
        return localization, embedding_map

    def finish(self, computed: tuple[Localization, EmbeddingMap]) -> ResultNodes:
        """Show the result: `ResultNodes`. Raises SceneError if the scan is gone or was changed."""
        from APELocalizerLib.scene.results import show_localization

        localization, embedding_map = computed
        self._check_scan_is_unchanged()
        self.localization = localization
        self.warnings += localization.notes
        if self._overlay:
            before = self._overlays.rgb_of(self._node, self._settings) if self._overlays else None
            anchored = self._engine.model.anchored
            nodes = show_localization(self._node, localization, embedding_map, overlay_node=before, anchored=anchored)
        else:
            nodes = show_localization(self._node, localization)
        if self._overlays:
            self._overlays.adopt(self._node, self._settings, nodes)
        return nodes


class LearnTask(_ScanTask):
    """Learn points, and organs of a segmentation, from a support scan; ends with the larger library."""

    def __init__(
        self,
        engine: Engine,
        volume_node: VolumeNode | None,
        library: LandmarkLibrary | None,
        settings: RunSettings,
        points_node: MarkupsNode | None = None,
        segmentation_node: SegmentationNode | None = None,
    ) -> None:
        from APELocalizerLib.core.library.library import LandmarkLibrary
        from APELocalizerLib.core.library.marks import Marks
        from APELocalizerLib.scene.volumes import labels_from_segmentation, points_from_markups, segment_names

        if volume_node is None:
            raise SceneError(_("Choose the support scan on which the landmarks were clicked."))
        if points_node is None and segmentation_node is None:
            raise SceneError(_("Choose a point list or a segmentation to learn from."))
        self._library = library if library is not None else LandmarkLibrary()
        segments = labels_from_segmentation(segmentation_node, volume_node) if segmentation_node else None
        self._marks = Marks(
            points=points_from_markups(points_node) if points_node else None,
            labels=segments[:2] if segments else None,
            label_names=segments[2] if segments else None,
        )
        super().__init__(engine, volume_node, settings)
        self._outside: tuple[str, ...] = ()
        if segmentation_node is not None and segments is not None:
            inside = segments[2].values()
            self._outside = tuple(name for name in segment_names(segmentation_node).values() if name not in inside)

    def run(
        self, progress: Progress | None = None, cancelled: CancelCheck | None = None
    ) -> tuple[Learned, tuple[str, ...]]:
        """Read the support and learn: what was learned, and warnings about the support's map."""
        report(progress, 0.0, _("Loading the model"))
        support_map = self._map(progress, cancelled)
        learned = self._engine.learn(support_map, self._marks, self._library, cancelled=cancelled)
        return learned, support_map.notes

    def finish(self, computed: tuple[Learned, tuple[str, ...]]) -> LandmarkLibrary:
        """The new library. Raises SceneError if the support is gone or was changed, for its clicks may be wrong."""
        self._check_scan_is_unchanged()
        learned, notes = computed
        self.warnings += notes
        left_out = (*self._outside, *learned.left_out)
        if left_out:
            text = _("Left out, because the support scan does not show enough of them: {names}.")
            self.warnings += (text.format(names=", ".join(left_out)),)
        return learned.library


class CallTask:
    """One function of (progress, cancelled) as a task without nodes."""

    def __init__(self, work: Callable[[Progress | None, CancelCheck | None], Any]) -> None:
        self._work = work

    def run(self, progress: Progress | None = None, cancelled: CancelCheck | None = None) -> Any:
        """Call the function."""
        return self._work(progress, cancelled)

    @staticmethod
    def finish(computed: Any) -> Any:
        """What the function returned."""
        return computed
