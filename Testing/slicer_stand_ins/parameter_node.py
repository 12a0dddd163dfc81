"""`slicer.parameterNodeWrapper`: typed properties stored in a scripted module node and bound to widgets."""

import enum
import typing
from dataclasses import dataclass

import qt
import vtk
from __feature__ import true_property  # noqa: F401


@dataclass
class WithinRange:
    minimum: float
    maximum: float


def parameterNodeWrapper(wrapped):
    """Class decorator: each annotated name becomes a property kept in the MRML parameter node."""
    fields = typing.get_type_hints(wrapped, include_extras=True)
    defaults = {name: getattr(wrapped, name, None) for name in fields}
    return type(wrapped.__name__, (_ParameterNode,), {"allParameters": fields, "_defaults": defaults})


class _ParameterNode:
    """Properties kept in a MRML parameter node; subclasses say which, with their types and defaults."""

    allParameters: typing.ClassVar[dict] = {}
    _defaults: typing.ClassVar[dict] = {}

    def __init__(self, parameterNode) -> None:
        self.__dict__.update(parameterNode=parameterNode, _connectors={}, _writing=False)
        for name, default in self._defaults.items():
            if default is not None and parameterNode.GetParameter(name) == "":
                self.setValue(name, default)
        parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, self._write_gui)

    def __getattr__(self, name: str):
        if name in self.allParameters:
            return self.getValue(name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value) -> None:
        if name not in self.allParameters:
            raise AttributeError(f"{name} is no parameter")
        self.setValue(name, value)

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag) -> None:
        self.parameterNode.RemoveObserver(tag)

    def getValue(self, name: str):
        kind = _plain(self.allParameters[name])
        if _is_node(kind):
            return self.parameterNode.GetNodeReference(name)
        text = self.parameterNode.GetParameter(name)
        if kind is bool:
            return text == "True"
        return kind[text] if issubclass(kind, enum.Enum) else kind(text)

    def setValue(self, name: str, value) -> None:
        kind = _plain(self.allParameters[name])
        if _is_node(kind):
            self.parameterNode.SetNodeReferenceID(name, value.GetID() if value else None)
        else:
            if not isinstance(value, kind):
                raise TypeError(f"{name} is a {kind.__name__}, not {value!r}")
            self.parameterNode.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(value))

    def connectGui(self, gui) -> int:
        for widget in vars(gui).values():
            name = widget.property("SlicerParameterName")
            if name:
                self._connect(name, widget)
        self._write_gui()
        return 0

    def disconnectGui(self, tag: int) -> None:
        self._connectors.clear()

    def _connect(self, name: str, widget) -> None:
        read, write, changed = _connector(widget, _plain(self.allParameters[name]))
        self._connectors[name] = write

        def to_node(*_arguments) -> None:
            if not self._writing and name in self._connectors:
                self.setValue(name, read())

        changed.connect(to_node)

    def _write_gui(self, *_arguments) -> None:
        if self._writing:
            return
        self.__dict__["_writing"] = True
        for name, write in self._connectors.items():
            write(self.getValue(name))
        self.__dict__["_writing"] = False


def _plain(kind):
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def _is_node(kind) -> bool:
    return kind.__name__.startswith("vtkMRML")


def _connector(widget, kind) -> tuple:
    """How to read and write a widget's value, and the signal of a change; as in Slicer, the types must fit exactly."""
    if _is_node(kind):
        return widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged
    if kind is float and type(widget).__name__ == "ctkSliderWidget":
        return lambda: widget.value, lambda value: setattr(widget, "value", value), widget.valueChanged
    if kind is bool and type(widget) is qt.QCheckBox:
        return lambda: widget.checked, lambda value: setattr(widget, "checked", value), widget.toggled
    if issubclass(kind, enum.Enum) and type(widget) is qt.QComboBox:
        items = list(kind)
        widget.clear()
        for item in items:
            widget.addItem(kind.label(item) if hasattr(kind, "label") else item.name)
        return (
            lambda: items[widget.currentIndex],
            lambda value: setattr(widget, "currentIndex", items.index(value)),
            widget.currentIndexChanged,
        )
    raise RuntimeError(f"Unable to connect {kind} to {type(widget)}")
