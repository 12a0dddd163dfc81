"""Slicer's slice views and 3D view drawn into memory, without a window and without the application.

The views are built on Slicer's own displayable managers, so that points, boxes and overlays look as they do in Slicer.
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import slicer
import slicer.util
import vtk

from APELocalizerLib.scene.headless import current_headless_scene
from APELocalizerLib.scene.nodes import VolumeNode
from APELocalizerLib.scene.pictures import capture, check_rendering, text_actor

SLICE_MANAGERS = ("vtkMRMLMarkupsDisplayableManager", "vtkMRMLModelSliceDisplayableManager")
THREED_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
)
LETTER_PAIRS = {"Axial": ("R", "L", "A", "P"), "Coronal": ("R", "L", "S", "I"), "Sagittal": ("A", "P", "S", "I")}
"""Letters at the left, right, top and bottom edge of a view (radiological: patient right on the left)."""


class OffscreenView:
    """Render window in memory with a displayable manager group for one view node."""

    def __init__(self, size: tuple[int, int], factory, managers: Sequence[str]) -> None:
        check_rendering()
        application_logic = current_headless_scene().application_logic
        self.size = size
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(8)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        factory.SetMRMLApplicationLogic(application_logic)
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.Initialize(factory, self.renderer)

    def add_text(self, text: str, position: tuple[float, float], size: int, **style) -> None:
        """Write text at a position in pixels from the lower left; style: color, align ("left", "center", "right")."""
        self.renderer.AddViewProp(text_actor(text, position, size, **style))

    def capture(self) -> np.ndarray:
        """The picture as (height, width, 3) uint8, first row on top."""
        return capture(self.window)

    def close(self) -> None:
        """Let go of the view node and the render window."""
        self.managers.SetMRMLDisplayableNode(None)
        self.window.Finalize()


class SliceView(OffscreenView):
    """One slice through the scene: "Axial", "Coronal" or "Sagittal", in world coordinates, patient right on the left.

    `center_ras` (3,) mm is the middle of the picture and lies on the slice; `mm_per_pixel` sets the zoom.
    """

    def __init__(self, orientation: str, size: tuple[int, int], center_ras, mm_per_pixel: float) -> None:
        super().__init__(size, slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), SLICE_MANAGERS)
        scene = current_headless_scene()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(scene.application_logic)
        self.logic.SetMRMLScene(scene.scene)
        self.node = self.logic.AddSliceNode(slicer.mrmlScene.GetUniqueNameByString("APELocalizer snapshot"))
        self.managers.SetMRMLDisplayableNode(self.node)
        self._show_image()
        self.node.SetOrientation(orientation)
        self.node.SetDimensions(*size, 1)
        self.node.SetFieldOfView(size[0] * mm_per_pixel, size[1] * mm_per_pixel, 1.0)
        self.orientation = orientation
        self.move_to(center_ras)

    def _show_image(self) -> None:
        self.image_mapper = vtk.vtkImageMapper()
        self.image_mapper.SetColorWindow(255)
        self.image_mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self.image_mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        background = vtk.vtkRenderer()
        background.AddViewProp(actor)
        self.renderer.SetLayer(1)
        self.window.SetNumberOfLayers(2)
        self.window.AddRenderer(background)

    def move_to(self, center_ras) -> None:
        """Lay the slice and the middle of the picture through a RAS position (3,)."""
        self.node.JumpSliceByCentering(*center_ras)

    def show(self, volume_node: VolumeNode, overlay_node: VolumeNode | None = None, opacity: float = 0.4) -> None:
        """Choose the scan and, over it, an overlay."""
        composite = self.logic.GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(volume_node.GetID())
        composite.SetForegroundVolumeID(overlay_node.GetID() if overlay_node is not None else None)
        composite.SetForegroundOpacity(opacity)

    def add_orientation_letters(self, size: int = 20) -> None:
        """Write R, L, A, P, S, I at the edges."""
        width, height = self.size
        left, right, top, bottom = LETTER_PAIRS[self.orientation]
        style = {"color": (0.75, 0.85, 1.0), "bold": True}
        self.add_text(left, (10, height / 2), size, align="left", **style)
        self.add_text(right, (width - 10, height / 2), size, align="right", **style)
        self.add_text(top, (width / 2, height - size - 6), size, align="center", **style)
        self.add_text(bottom, (width / 2, 10), size, align="center", **style)

    def to_pixel(self, point_ras) -> np.ndarray:
        """Picture position (x, y) in pixels from the lower left of a RAS point, projected on the slice."""
        matrix = slicer.util.arrayFromVTKMatrix(self.node.GetXYToRAS())
        return (np.linalg.inv(matrix) @ np.append(np.asarray(point_ras, dtype=np.float64), 1.0))[:2]

    def add_cross(self, point_ras, size: int = 26) -> None:
        """Draw a white cross where a RAS point is projected on the slice."""
        x, y = self.to_pixel(point_ras)
        self.add_text("+", (x, y - 0.36 * size), size, align="center")

    def capture(self) -> np.ndarray:
        self.logic.UpdatePipeline()
        self.image_mapper.SetInputConnection(self.logic.GetImageDataConnection())
        return super().capture()

    def close(self) -> None:
        super().close()
        self.logic.SetMRMLScene(None)


class ThreeDView(OffscreenView):
    """Slicer's 3D view, looking at the patient from the front."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(size, slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), THREED_MANAGERS)
        scene = current_headless_scene()
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(scene.application_logic)
        self.logic.SetMRMLScene(scene.scene)
        self.node = self.logic.AddViewNode(slicer.mrmlScene.GetUniqueNameByString("APELocalizer snapshot 3D"))
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        self.managers.SetMRMLDisplayableNode(self.node)
        self.window.SetMultiSamples(0)  # depth peeling does not work with it
        self.renderer.UseFXAAOn()
        self.renderer.SetUseDepthPeeling(True)
        self.renderer.SetMaximumNumberOfPeels(5)

    def look_at(self, center_ras, height_mm: float, direction=(0.25, 1.0, 0.12)) -> None:
        """Aim the camera at a RAS point from `direction`; `height_mm` fills the picture from top to bottom."""
        camera = self.renderer.GetActiveCamera()
        center = np.asarray(center_ras, dtype=np.float64)
        unit = np.asarray(direction) / np.linalg.norm(direction)
        camera.SetFocalPoint(*center)
        camera.SetPosition(*(center + unit * height_mm * 3.0))
        camera.SetViewUp(0, 0, 1)
        camera.SetParallelProjection(True)
        camera.SetParallelScale(height_mm / 2)
        self.renderer.SetGradientBackground(False)
        self.renderer.SetBackground(0.0, 0.0, 0.0)
        self.renderer.ResetCameraClippingRange()

    def to_pixel(self, point_ras) -> np.ndarray:
        """Picture position (x, y) in pixels from the lower left of a RAS point."""
        self.renderer.SetWorldPoint(*np.asarray(point_ras, dtype=np.float64), 1.0)
        self.renderer.WorldToDisplay()
        return np.array(self.renderer.GetDisplayPoint()[:2])

    def close(self) -> None:
        super().close()
        self.logic.SetMRMLScene(None)


@contextlib.contextmanager
def only_shown(nodes: list, class_name: str = "vtkMRMLDisplayableNode") -> Iterator[None]:
    """Hide all markups, models and segmentations but `nodes`, and put their visibility back afterwards."""
    before = []
    for node in slicer.util.getNodesByClass(class_name):
        display = node.GetDisplayNode()
        if display is None or node.IsA("vtkMRMLVolumeNode") or node in nodes:
            continue
        before.append((display, display.GetVisibility()))
        display.SetVisibility(False)
    try:
        yield
    finally:
        for display, visible in before:
            display.SetVisibility(visible)
