"""What can be seen without running the panel: names in the `.ui` file, translated texts, imports."""

import ast
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from slicer_stand_ins import i18n

import APELocalizer
from APELocalizerLib.core.localization.localize import NOT_COMPARED

MODULE = Path(APELocalizer.__file__).parent
GUI_FILES = sorted((MODULE / "APELocalizerLib" / "gui").glob("*.py"))
SCENE_FILES = [
    MODULE / "APELocalizerLib" / "scene" / f"{name}.py"
    for name in ("choices", "logic", "setup_status", "tasks", "wording", "overlay_keeper")
]
"""Files of the scene that say something to the user of the panel."""
SOURCES = [MODULE / "APELocalizer.py", *GUI_FILES, *SCENE_FILES]
UI = ElementTree.parse(MODULE / "Resources" / "UI" / "APELocalizer.ui").getroot()
WIDGETS = {widget.get("name"): widget.get("class") for widget in UI.iter("widget")}
MRML_KINDS = {"qMRMLNodeComboBox", "qSlicerSimpleMarkupsWidget"}
MRML_WIDGETS = {name for name, kind in WIDGETS.items() if kind in MRML_KINDS}
NEEDS_TOOL_TIP = {"QPushButton", "QCheckBox", "QComboBox", "QLineEdit", "qMRMLNodeComboBox", "ctkSliderWidget"}
NEEDS_TOOL_TIP |= {"QTableWidget"}


def property_texts(widget: ElementTree.Element, name: str) -> list[str]:
    return [child.findtext("string") for child in widget.findall("property") if child.get("name") == name]


# The .ui file ------------------------------------------------------------------------------------------------------


def test_every_widget_that_the_code_names_is_in_the_ui_file():
    used = set()
    for path in SOURCES:
        used |= set(re.findall(r"\b_?ui\.(\w+)", path.read_text(encoding="utf-8")))
    assert len(used) > 25
    assert used <= set(WIDGETS), f"not in the .ui file: {sorted(used - set(WIDGETS))}"


def test_every_bound_parameter_is_a_field_of_the_parameter_node():
    bound = {text for widget in UI.iter("widget") for text in property_texts(widget, "SlicerParameterName")}
    assert bound == {
        "support",
        "points",
        "segmentation",
        "scan",
        "spacing",
        "replaceResults",
        "overlay",
        "opacity",
        "supportCTs",
    }
    assert bound <= set(APELocalizer.APELocalizerParameterNode.allParameters)


def test_every_mrml_widget_gets_the_scene():
    right = ("APELocalizer", "setMRMLScene(vtkMRMLScene*)")
    connections = [[wire.findtext(end) for end in ("sender", "slot", "receiver")] for wire in UI.iter("connection")]
    connected = {receiver for sender, slot, receiver in connections if (sender, slot) == right}
    assert connected == MRML_WIDGETS


def test_every_control_has_a_tool_tip():
    without = [
        widget.get("name")
        for widget in UI.iter("widget")
        if widget.get("class") in NEEDS_TOOL_TIP and not property_texts(widget, "toolTip")
    ]
    assert without == []


def test_the_ui_file_has_no_style_sheet_and_no_unnamed_custom_widget():
    assert not [item for item in UI.iter("property") if item.get("name") == "styleSheet"]
    custom = {widget.findtext("class") for widget in UI.iter("customwidget")}
    assert {kind for kind in WIDGETS.values() if not kind.startswith("Q")} == custom


# Translation -------------------------------------------------------------------------------------------------------


def translated_calls(tree: ast.AST) -> list[ast.Call]:
    names = {"_", "translate"}
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in names]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_plain_texts_are_given_to_the_translation(path):
    for call in translated_calls(ast.parse(path.read_text(encoding="utf-8"))):
        assert all(isinstance(argument, ast.Constant) for argument in call.args), f"{path.name}:{call.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_sentence_is_translated(path):
    """A text with a space in it is a docstring, is translated, or is one of the few below that no user reads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    translated = {id(argument) for call in translated_calls(tree) for argument in call.args}
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    technical = {"R (mm)", "A (mm)", "S (mm)", "Round trip (mm)", "learn points", "learn organs"}
    technical |= {"APELocalizer contributors", "Test passed"}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or " " not in node.value.strip():
            continue
        if id(node) in translated | documentation or node.value in technical or node.value.startswith("<span"):
            continue
        pytest.fail(f"{path.name}:{node.lineno} is not translated: {node.value!r}")


def test_no_error_or_status_text_escapes_the_translation(monkeypatch, panel, patient):
    """All but names and the core's own notes, which are in English, like its errors."""
    monkeypatch.setattr(i18n, "SHOUT", True)
    panel.learn(patient)
    panel.localize(patient.volume)
    labels = (panel.ui.librarySummaryLabel, panel.ui.statusLabel, panel.ui.deviceLabel)
    texts = [*(label.text for label in labels), panel.rows()[0][1]]
    names = f"carina|heart|liver|spleen|patient A landmarks|Automatic|cores|{re.escape(NOT_COMPARED)}"
    for text in texts:
        assert not re.search("[a-z]{3,}", re.sub(f"{names}|<[^>]*>", "", text)), text


# Imports -----------------------------------------------------------------------------------------------------------


def test_starting_slicer_loads_nothing_heavy():
    """Import the module and open its panel in a new process, without PyTorch's extension: no torch, no SimpleITK."""
    program = textwrap.dedent(
        f"""
        import sys
        sys.path[:0] = [{str(MODULE)!r}, {str(Path(__file__).parents[1])!r}]
        import slicer_stand_ins.installed
        before = set(sys.modules)
        import APELocalizer
        from slicer_stand_ins import qt_module as qt
        heavy = {{"torch", "SimpleITK", "scipy", "skimage"}}
        assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)
        slicer_stand_ins.use_properties("APELocalizer")
        import slicer
        slicer.mrmlScene = slicer.vtkMRMLScene()
        slicer.util.errorDisplay = print
        application, parent = qt.QApplication([]), qt.QWidget()
        qt.QVBoxLayout(parent)
        from pathlib import Path
        for path in (Path(APELocalizer.__file__).parent / "APELocalizerLib" / "gui").glob("*.py"):
            slicer_stand_ins.use_properties("APELocalizerLib.gui." + path.stem)
        widget = APELocalizer.APELocalizerWidget(parent)
        widget.setup()
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        widget.cleanup()
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_module_describes_itself(monkeypatch):
    parent = type("Parent", (), {})()
    APELocalizer.APELocalizer(parent)
    assert parent.title == "APE Localizer" and parent.categories and parent.contributors
    assert "2409.10291" in parent.acknowledgementText and "CT" in parent.helpText and "research" in parent.helpText


def test_the_test_that_slicer_runs_passes(scene, pytorch_extension):
    APELocalizer.APELocalizerTest().runTest()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_files_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250


# Keyboard and screen readers ---------------------------------------------------------------------------------------


def test_no_two_controls_share_a_key():
    texts = [text for widget in UI.iter("widget") for text in property_texts(widget, "text") if text]
    letters = [key.lower() for key in re.findall(r"&(\w)", " ".join(texts))]
    assert len(letters) > 12 and len(letters) == len(set(letters)), sorted(letters)


def test_the_tab_key_goes_through_all_controls_from_top_to_bottom():
    stops = [stop.text for stop in UI.iter("tabstop")]
    controls = [name for name, kind in WIDGETS.items() if kind in NEEDS_TOOL_TIP | MRML_KINDS]
    assert sorted(stops) == sorted(controls)


def test_what_has_no_text_has_a_name_for_screen_readers():
    named = {widget.get("name") for widget in UI.iter("widget") if property_texts(widget, "accessibleName")}
    lights = {"torchLight", "deviceLight", "weightsLight"}
    assert MRML_WIDGETS | lights | {"resultTable", "opacitySlider"} <= named


def test_every_column_says_its_unit_and_meaning():
    table = next(widget for widget in UI.iter("widget") if widget.get("name") == "resultTable")
    tips = {column.findtext("property/string"): property_texts(column, "toolTip") for column in table.findall("column")}
    titles = ["Name", "Status", "Expected\nerror (mm)", "Round trip\n(mm)", "R (mm)", "A (mm)", "S (mm)"]
    assert list(tips) == titles and all(tips.values())
    assert all("mm" in tip for title, (tip,) in tips.items() if title.endswith("(mm)"))
    assert "Consistency check" in tips[titles[3]][0] and "not the error" in tips[titles[3]][0]
    assert "half are farther" in tips[titles[2]][0]
    assert "Qt::ElideMiddle" in {child.findtext("enum") for child in table.findall("property")}, "left and right"
