"""What the test inside Slicer checks: the main job on the sample data, and that a refusal leaves nothing behind."""

import math
import unittest

import slicer

from APELocalizerLib.core.base.errors import APELocalizerError
from APELocalizerLib.scene.logic import APELocalizerLogic
from APELocalizerLib.scene.sample_data import SUPPORT, TARGET, load_sample, sample_points

LANDMARKS = ("carina", "aortic_arch_top", "kidney_right_upper_pole", "liver_inferior_tip")
"""Clicked on the support. The last one lies below the target scan."""

LARGEST_ERROR_MM = 25.0
"""Beyond this a landmark counts as wrong: the marks themselves are uncertain by 3 to 8 mm."""


def check_refusal(case: unittest.TestCase) -> None:
    """A run that cannot start says so and leaves the scene as it was."""
    logic = APELocalizerLogic()
    logic.getParameterNode()
    before = slicer.mrmlScene.GetNumberOfNodes()
    with case.assertRaises(APELocalizerError):
        logic.localizeTask(None, None)
    case.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), before)


def check_main_job(case: unittest.TestCase) -> None:
    """Landmarks clicked on one sample CT are found on the other, where they were marked, or said to be outside."""
    support, target, clicks = load_sample(SUPPORT), load_sample(TARGET), sample_points("support")
    if support is None or target is None:
        case.skipTest("The sample data is not on this computer.")
    logic = APELocalizerLogic()
    if logic.torchProblem():
        case.skipTest(logic.torchProblem())
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "clicks")
    for name in LANDMARKS:
        points.AddControlPointWorld(clicks[name], name)
    library = logic.learn(support, pointsNode=points, spacing="fast", device="cpu")
    nodes = logic.localize(target, library, spacing="fast", device="cpu")
    marks = sample_points("target")
    for index, name in enumerate(LANDMARKS):
        status = nodes.points_node.GetNthControlPointPositionStatus(index)
        is_found = status == slicer.vtkMRMLMarkupsNode.PositionDefined
        case.assertEqual(is_found, name in marks, f"{name} found")
        if is_found:
            error = math.dist(nodes.points_node.GetNthControlPointPositionWorld(index), marks[name])
            case.assertLess(error, LARGEST_ERROR_MM, name)
    case.assertEqual(nodes.table_node.GetNumberOfRows(), len(LANDMARKS))
    case.assertIsNotNone(nodes.overlay_node)
