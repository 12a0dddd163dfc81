"""Color nodes of the overlays, made once per scene.

Slicer ships such tables too, but not every version has the same, and outside the application there are none.
"""

import numpy as np
import slicer
import slicer.util

ENTRIES = 256
KIND_ATTRIBUTE = "APELocalizer.ColorMap"

VIRIDIS = (
    (68, 1, 84), (72, 36, 117), (65, 68, 135), (53, 95, 141), (42, 120, 142), (33, 145, 140),
    (34, 168, 132), (68, 191, 112), (122, 209, 81), (189, 223, 38), (253, 231, 37),
)  # fmt: skip
"""Perceptually uniform (S. van der Walt, N. Smith; CC0), eleven even stations."""

INFERNO = (
    (0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84),
    (221, 81, 58), (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164),
)  # fmt: skip
"""Perceptually uniform, dark to bright (S. van der Walt, N. Smith; CC0), eleven even stations."""


def viridis_colors():
    """Color table for a channel."""
    return _color_node("Anatomical channel", VIRIDIS)


def heat_colors():
    """Color table for similarities; starts with a purple that shows on dark tissue."""
    return _color_node("Anatomical similarity", INFERNO[3:])


def _color_node(name: str, stations: tuple):
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if node.GetAttribute(KIND_ATTRIBUTE) == name:
            return node
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass("vtkMRMLColorTableNode", scene.GetUniqueNameByString(name))
    node.SetTypeToUser()
    node.SetNumberOfColors(ENTRIES)
    node.SetAttribute(KIND_ATTRIBUTE, name)
    places = np.linspace(0.0, 1.0, len(stations))
    rgb = [np.interp(np.linspace(0.0, 1.0, ENTRIES), places, column) / 255.0 for column in zip(*stations, strict=True)]
    for index, color in enumerate(zip(*rgb, strict=True)):
        node.SetColor(index, str(index), *color, 1.0)
    return node
