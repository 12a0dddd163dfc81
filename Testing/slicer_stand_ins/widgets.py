"""Stand-ins for the CTK, MRML and Slicer widgets that the module's `.ui` file names."""

from PySide6.QtCore import Property, QEvent, QRect, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QSlider,
    QStyle,
    QStyleOption,
    QVBoxLayout,
    QWidget,
)

from slicer_stand_ins.markups_widget import qSlicerSimpleMarkupsWidget

HEADER = 24


class ctkCollapsibleButton(QWidget):
    """A titled section that opens and closes with a click on its title; a child that was hidden stays hidden."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._text, self._collapsed, self._forcing = "", False, False
        self.setContentsMargins(0, HEADER, 0, 0)

    def _set_text(self, text: str) -> None:
        self._text = text
        self.update()

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed, self._forcing = collapsed, True
        for child in self.findChildren(QWidget, options=Qt.FindDirectChildrenOnly):
            child.setVisible(not collapsed and child.property("visibilityToParent") is not False)
        self._forcing = False
        self.setMaximumHeight(HEADER if collapsed else 16777215)
        self.update()
        self.contentsCollapsed.emit(collapsed)

    text = Property(str, lambda self: self._text, _set_text)
    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)

    def childEvent(self, event) -> None:
        if event.type() == QEvent.ChildAdded and event.child().isWidgetType():
            event.child().installEventFilter(self)

    def eventFilter(self, child, event) -> bool:
        if not self._forcing and event.type() in (QEvent.ShowToParent, QEvent.HideToParent):
            child.setProperty("visibilityToParent", event.type() == QEvent.ShowToParent)
            if self._collapsed:
                self._set_collapsed(True)
        return False

    def showEvent(self, event) -> None:
        if self._collapsed:
            self._set_collapsed(True)

    def mousePressEvent(self, event) -> None:
        if event.position().y() < HEADER:
            self._set_collapsed(not self._collapsed)

    def paintEvent(self, event) -> None:
        painter, palette = QPainter(self), self.palette()
        painter.fillRect(QRect(0, 0, self.width(), HEADER - 2), palette.button().color().darker(106))
        arrow = QStyleOption()
        arrow.rect, arrow.palette, arrow.state = QRect(6, 6, 10, 10), palette, QStyle.State_Enabled
        kind = QStyle.PE_IndicatorArrowRight if self._collapsed else QStyle.PE_IndicatorArrowDown
        self.style().drawPrimitive(kind, arrow, painter)
        painter.drawText(QRect(24, 0, self.width() - 24, HEADER - 2), Qt.AlignVCenter, self._text)


class ctkSliderWidget(QWidget):
    """A slider with a number beside it."""

    valueChanged = Signal(float)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._slider, self._box = QSlider(Qt.Horizontal), QDoubleSpinBox()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._slider.setRange(0, 100)
        self._slider.valueChanged.connect(lambda value: self._box.setValue(value / 100 * self._box.maximum()))
        self._box.valueChanged.connect(self._on_value)

    def _on_value(self, value: float) -> None:
        self._slider.setValue(round(value / max(self._box.maximum(), 1e-9) * 100))
        self.valueChanged.emit(value)

    value = Property(float, lambda self: self._box.value(), lambda self, value: self._box.setValue(value))
    minimum = Property(float, lambda self: self._box.minimum(), lambda self, value: self._box.setMinimum(value))
    maximum = Property(float, lambda self: self._box.maximum(), lambda self, value: self._box.setMaximum(value))
    singleStep = Property(float, lambda self: self._box.singleStep(), lambda self, step: self._box.setSingleStep(step))


class qMRMLWidget(QWidget):
    """Gives its scene to the MRML widgets in it, as the connections in the `.ui` file do."""

    def setMRMLScene(self, scene) -> None:
        for child in self.findChildren(QWidget):
            if hasattr(child, "setMRMLScene"):
                child.setMRMLScene(scene)


class SortFilterProxyModel:
    """Which nodes a selector leaves out."""

    def __init__(self, changed) -> None:
        self._changed, self._hidden = changed, []

    @property
    def hiddenNodeIDs(self) -> list[str]:
        return list(self._hidden)

    @hiddenNodeIDs.setter
    def hiddenNodeIDs(self, ids: list[str]) -> None:
        if list(ids) != self._hidden:
            self._hidden = list(ids)
            self._changed()


class qMRMLNodeComboBox(QWidget):
    """Chooses a node of exactly the given classes in the scene.

    As in Slicer, one without “None” chooses a node by itself as soon as there is one, also while a scene is loaded, and
    `nodeActivated` is emitted by a program's choice as well as by the user's.
    """

    currentNodeChanged = Signal(object)
    nodeActivated = Signal(object)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._box, self._scene, self._nodes, self._node = QComboBox(), None, [], None
        self._filter = SortFilterProxyModel(self._update)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self.setFocusProxy(self._box)
        self._box.activated.connect(lambda index: self.setCurrentNode(self._nodes[index]))

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent):
            scene.AddObserver(event, lambda *_: self._update())
        self._update()

    def sortFilterProxyModel(self) -> SortFilterProxyModel:
        return self._filter

    def offered(self) -> list:
        """Nodes that the user can choose."""
        return [node for node in self._nodes if node is not None]

    def currentNode(self):
        return self._node

    def setCurrentNode(self, node) -> None:
        if node is None and not self._none_enabled() and self._nodes:
            node = self._nodes[0]
        changed = node is not self._node
        self._node = node
        self._box.setCurrentIndex(self._nodes.index(node) if node in self._nodes else -1)
        if changed:
            self.currentNodeChanged.emit(node)
            self.nodeActivated.emit(node)

    def _none_enabled(self) -> bool:
        return bool(self.property("noneEnabled"))

    def _update(self) -> None:
        offered = []
        for kind in self.property("nodeTypes") or []:
            collection = self._scene.GetNodesByClass(kind)
            collection.UnRegister(None)
            nodes = [collection.GetItemAsObject(i) for i in range(collection.GetNumberOfItems())]
            offered += [node for node in nodes if node.GetClassName() == kind]  # showChildNodeTypes is off everywhere
        hidden = self._filter.hiddenNodeIDs
        offered = [node for node in offered if not node.GetHideFromEditors() and node.GetID() not in hidden]
        self._nodes = ([None] if self._none_enabled() else []) + offered
        self._box.clear()
        for node in self._nodes:
            self._box.addItem(node.GetName() if node else self.property("noneDisplay") or "None")
        self.setCurrentNode(self._node if self._node in offered else None)


CUSTOM_WIDGETS = (
    ctkCollapsibleButton,
    ctkSliderWidget,
    qMRMLNodeComboBox,
    qMRMLWidget,
    qSlicerSimpleMarkupsWidget,
)
