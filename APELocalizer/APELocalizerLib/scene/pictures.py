"""Drawing without a screen: whether it is possible, text, reading a render window back, and PNG files."""

import ctypes
import ctypes.util
from collections.abc import Sequence

import numpy as np
import vtk
from vtk.util import numpy_support

from APELocalizerLib.core.base.errors import SceneError


class MissingRenderingLibrary(SceneError):
    """A system library for drawing without a screen is missing."""

    def __init__(self) -> None:
        super().__init__(
            "Pictures cannot be drawn because OpenGL for machines without a screen is missing. "
            "Install it (on Debian or Ubuntu: sudo apt-get install libegl1 libgl1-mesa-dri) and try again."
        )


def check_rendering() -> None:
    """Raise MissingRenderingLibrary where drawing would make VTK abort the process."""
    verbosity = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    try:
        kind = vtk.vtkRenderWindow().GetClassName()  # VTK itself tries EGL, then falls back to OSMesa
    finally:
        vtk.vtkLogger.SetStderrVerbosity(verbosity)
    if kind == "vtkRenderWindow" or (kind == "vtkOSOpenGLRenderWindow" and not _loads("OSMesa")):
        raise MissingRenderingLibrary()


def _loads(library: str) -> bool:
    for name in (ctypes.util.find_library(library), f"lib{library}.so.8", f"lib{library}.so.6"):
        try:
            if name and ctypes.CDLL(name):
                return True
        except OSError:
            continue
    return False


def text_actor(text: str, position, size: int, color=(1.0, 1.0, 1.0), align: str = "left", bold: bool = False):
    """2D text with a thin shadow; `position` is (x, y) in pixels from the lower left."""
    actor = vtk.vtkTextActor()
    actor.SetInput(text)
    actor.SetPosition(*position)
    style = actor.GetTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(size)
    style.SetColor(*color)
    style.SetBold(bold)
    style.SetShadow(True)
    style.SetShadowOffset(1, -1)
    {"left": style.SetJustificationToLeft, "center": style.SetJustificationToCentered,
     "right": style.SetJustificationToRight}[align]()  # fmt: skip
    return actor


def text_banner(size: tuple[int, int], texts: Sequence[tuple]) -> np.ndarray:
    """Black picture (height, width, 3) with texts, each (text, (x, y), font size, style keywords)."""
    check_rendering()
    renderer, window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    for text, position, font_size, style in texts:
        renderer.AddViewProp(text_actor(text, position, font_size, **style))
    picture = capture(window)
    window.Finalize()
    return picture


def capture(window) -> np.ndarray:
    """Render a window and read it back as (height, width, 3) uint8, first row on top."""
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.SetInputBufferTypeToRGB()
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    width, height, _ = image.GetDimensions()
    pixels = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
    return np.ascontiguousarray(pixels[::-1, :, :3])


def write_png(picture: np.ndarray, path) -> None:
    """Write a picture (height, width, 3) uint8, first row on top."""
    height, width, _ = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    flipped = np.ascontiguousarray(picture[::-1]).reshape(-1, 3)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(flipped, deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()
