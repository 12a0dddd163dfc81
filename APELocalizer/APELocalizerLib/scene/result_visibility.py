"""Only results of the scan in view are visible, so that two patients are never drawn over one another. No Qt."""

import slicer
import slicer.util

from APELocalizerLib.scene.nodes import MarkupsNode, VolumeNode
from APELocalizerLib.scene.references import HIDDEN_ATTRIBUTE, SCAN_REFERENCE
from APELocalizerLib.scene.slice_views import scan_in_view, scans_in_view

SHOWN_IN_VIEWS = ("vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsROINode")
"""Kinds of result nodes that are drawn in the views."""


def show_only_results_in_view(clicked_node: MarkupsNode | None = None, support_node: VolumeNode | None = None) -> None:
    """Hide results of scans that are not in view, and show again those that were hidden so; likewise the clicked
    points, which belong to the support. An overlay of a scan that is not in view is taken out of the slice views.

    While no scan is in view everything stays as it is.
    """
    background = scan_in_view()
    if background is None:
        return
    if _is_foreign_overlay(background):
        slicer.util.setSliceViewerLayers(foreground=None)
    shown = {_scan_of(node).GetID() for node in scans_in_view()}
    for kind in SHOWN_IN_VIEWS:
        for node in slicer.util.getNodesByClass(kind):
            scan = node.GetNodeReference(SCAN_REFERENCE)
            if scan is not None:
                _set_hidden(node, scan.GetID() not in shown)
    if clicked_node is not None and support_node is not None:
        _set_hidden(clicked_node, support_node.GetID() not in shown)


def _is_foreign_overlay(background) -> bool:
    """Whether the foreground is an overlay of another scan than the background."""
    overlays = (node for node in scans_in_view()[1:] if node.GetNodeReference(SCAN_REFERENCE) is not None)
    return any(_scan_of(node) is not _scan_of(background) for node in overlays)


def _scan_of(volume_node: VolumeNode):
    """The scan that an overlay belongs to, or the volume itself."""
    return volume_node.GetNodeReference(SCAN_REFERENCE) or volume_node


def _set_hidden(node, hidden: bool) -> None:
    if hidden and node.GetDisplayVisibility():
        node.SetAttribute(HIDDEN_ATTRIBUTE, "1")
        node.SetDisplayVisibility(0)
    elif not hidden and node.GetAttribute(HIDDEN_ATTRIBUTE):
        node.SetAttribute(HIDDEN_ATTRIBUTE, None)
        node.SetDisplayVisibility(1)
