"""`slicer.ScriptedLoadableModule`: the base classes of a scripted module."""

import sys
import unittest
from pathlib import Path

import slicer


class ScriptedLoadableModule:
    """Module metadata is written to `parent`, which Slicer gives to the module."""

    def __init__(self, parent) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__


class ScriptedLoadableModuleWidget:
    """The module's panel: fills `parent`, which has a layout."""

    def __init__(self, parent=None) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.layout = parent.layout()

    def resourcePath(self, filename: str) -> str:
        return str(Path(sys.modules[self.__module__].__file__).parent / "Resources" / filename)

    def setup(self) -> None:
        """Slicer adds its developer section here."""


class ScriptedLoadableModuleLogic:
    """Computations, and the module's parameter node."""

    def __init__(self, parent=None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str, msec: int = 0) -> None:
        """Slicer shows the message for a while."""
