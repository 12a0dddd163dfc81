"""What the slice views show: which scan, what over it, and the place they are centered on. No Qt."""

import contextlib
from collections.abc import Iterator, Sequence

import slicer
import slicer.util

from APELocalizerLib.scene.headless import current_headless_scene, inside_slicer
from APELocalizerLib.scene.nodes import VolumeNode


def scans_in_view() -> tuple:
    """Background and foreground volume of the first slice view, as far as there are any."""
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    if composite is None:
        return ()
    ids = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
    return tuple(node for node in (slicer.mrmlScene.GetNodeByID(node_id or "") for node_id in ids) if node)


def scan_in_view() -> VolumeNode | None:
    """Background volume of the first slice view, or None."""
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    return slicer.mrmlScene.GetNodeByID((composite and composite.GetBackgroundVolumeID()) or "")


def show_scan(volume_node: VolumeNode) -> None:
    """Show a scan alone in all slice views, as large as they allow. A scan that is shown alone already stays put."""
    if scans_in_view() == (volume_node,):
        return
    is_new = scan_in_view() is not volume_node
    slicer.util.setSliceViewerLayers(background=volume_node, foreground=None)
    if is_new:
        fit_slices()


def fit_slices() -> None:
    """Center and zoom all slice views on their background."""
    if inside_slicer():
        slicer.util.setSliceViewerLayers(fit=True)
    else:
        current_headless_scene().fit_slices()


def center_on(position_ras: Sequence[float]) -> None:
    """Move all slice views to a position (RAS world mm)."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position_ras, slicer.vtkMRMLSliceNode.CenteredJumpSlice)


def reset_3d_views() -> None:
    """Let the 3D views show all that is in them; outside Slicer there are none."""
    if inside_slicer():
        slicer.util.resetThreeDViews()


@contextlib.contextmanager
def rendering_paused() -> Iterator[None]:
    """Draw nothing until the context is left: otherwise each changed node is drawn at once, for seconds in all."""
    blocker = getattr(slicer.util, "RenderBlocker", None) if inside_slicer() else None  # from Slicer 5.6 on
    with blocker() if blocker else contextlib.nullcontext():
        yield
