"""What the Slicer application adds to `slicer-core`, as small as the module's tests need it.

`slicer-core` is Slicer's own MRML and VTK code without Qt. These stand-ins supply the rest under the names Slicer uses:
`qt` and `ctk` (PySide6 in PythonQt's property syntax), the qMRML widgets that the module's `.ui` file names, and
`slicer.ScriptedLoadableModule`, `slicer.parameterNodeWrapper` and `slicer.i18n`.
"""

import sys
import types

import PySide6.QtCore  # noqa: F401  (makes __feature__ importable)

TRUE_PROPERTY = 2


def _load_feature():
    """PySide6's switch from getters to properties. It reads the source of all modules; some of torch's trip it."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "torch"}
    try:
        from __feature__ import true_property  # noqa: F401
        from shibokensupport import feature
    finally:
        sys.modules.update(hidden)
    feature.pyside_feature_dict.update(dict.fromkeys(hidden, -1))
    return feature


feature = _load_feature()


def use_properties(*names: str) -> None:
    """Let the named, already imported modules use PythonQt's syntax: `button.text = "…"` instead of `setText("…")`."""
    for name in names:
        feature.pyside_feature_dict[name] = TRUE_PROPERTY


def install() -> None:
    """Make `import qt`, `import ctk` and `slicer.…` find the stand-ins; calling it again does nothing."""
    if "qt" in sys.modules:
        return
    import slicer
    import slicer.util

    from slicer_stand_ins import i18n, qt_module, scripted_module, widgets

    sys.modules["qt"] = qt_module
    ctk = types.ModuleType("ctk")
    for widget in widgets.CUSTOM_WIDGETS:
        setattr(ctk if widget.__name__.startswith("ctk") else slicer, widget.__name__, widget)
    sys.modules["ctk"] = ctk

    from slicer_stand_ins import parameter_node

    for name, module in (
        ("ScriptedLoadableModule", scripted_module),
        ("parameterNodeWrapper", parameter_node),
        ("i18n", i18n),
    ):
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
