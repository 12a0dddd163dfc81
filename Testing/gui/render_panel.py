"""Draws the module's panel into a picture, after landmarks of one sample CT were found on the other.

    python Testing/gui/render_panel.py [--model default] [--out Resources/Screenshots/panel.png] [--checks FOLDER]

`--checks` also draws it in dark colors, and as much of it as a screen of 1366×768 shows after a run.

The panel, its logic and the results are real; only the Slicer widgets in it are stand-ins (see slicer_stand_ins).
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "APELocalizer"), str(ROOT / "Testing")]

import slicer_stand_ins.installed  # noqa: E402, I001  (first: it makes the imports below possible)
import slicer  # noqa: E402
import slicer.util  # noqa: E402
from PySide6.QtCore import QRect  # noqa: E402
from PySide6.QtGui import QColor, QPalette  # noqa: E402
from PySide6.QtWidgets import QApplication, QScrollArea, QVBoxLayout, QWidget  # noqa: E402

import APELocalizer  # noqa: E402
from APELocalizerLib.core.annotations.marks import read_points  # noqa: E402
from APELocalizerLib.core.library.spoken_names import spoken_name  # noqa: E402
from APELocalizerLib.core.scan.read import read_scan  # noqa: E402
from APELocalizerLib.scene.headless import add_volume, open_headless_scene  # noqa: E402

SAMPLES = ROOT / "Resources" / "SampleData"
SECONDS = 600
MARGIN = 12
WIDTH = 440
SMALL_SCREEN = 540
"""Height in pixels that the menus, the tool bars and the data probe of Slicer leave of 768."""
DARK = {
    "Window": "#323232", "Base": "#262626", "AlternateBase": "#2e2e2e", "Button": "#3c3c3c", "Text": "#e6e6e6",
    "WindowText": "#e6e6e6", "ButtonText": "#e6e6e6", "Highlight": "#2a82da", "HighlightedText": "#ffffff",
    "PlaceholderText": "#909090",
}  # fmt: skip
"""Colors of a dark desktop."""


def open_panel():
    """The module's widget in a window of its own, as wide as Slicer's module panel."""
    sys.path.append(str(Path(slicer_stand_ins.__file__).parent / "extensions"))
    gui = ROOT / "APELocalizer" / "APELocalizerLib" / "gui"
    slicer_stand_ins.use_properties(
        __name__, "APELocalizer", *(f"APELocalizerLib.gui.{path.stem}" for path in gui.glob("*.py"))
    )
    slicer.util.errorDisplay = lambda text, **_: sys.exit(text)
    parent = QWidget()
    QVBoxLayout(parent).setContentsMargins(4, 4, 4, 4)
    parent.isEntered = True
    widget = APELocalizer.APELocalizerWidget(parent)
    widget.setup()
    return widget


def wait(widget) -> None:
    """Let Qt work until nothing runs any more."""
    end = time.monotonic() + SECONDS
    while widget.session.runner.busy or widget.session.runner.in_background_now:
        QApplication.processEvents()
        if time.monotonic() > end:
            sys.exit("It takes too long.")
    QApplication.processEvents()


def learn_and_localize(widget) -> None:
    """Click through the module with the two sample scans."""
    volumes = {}
    for name in ("support", "target"):
        scan = read_scan(SAMPLES / f"{name}_ct.nii.gz")
        volumes[name] = add_volume(scan.voxels, scan.ijk_to_ras, f"{name}_ct")
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Landmarks")
    for name, position in read_points(SAMPLES / "support_points.csv").items():
        points.AddControlPointWorld(list(position), spoken_name(name))
    widget.ui.supportSelector.setCurrentNode(volumes["support"])
    widget.ui.pointsSelector.setCurrentNode(points)
    widget.ui.learnPointsButton.click()
    wait(widget)
    widget.ui.scanSelector.setCurrentNode(volumes["target"])
    widget.ui.localizeButton.click()
    wait(widget)
    rows = widget.ui.resultTable.rowCount
    found_rows = [row for row in range(rows) if "✓" in widget.ui.resultTable.item(row, 1).text()]
    widget.ui.resultTable.setCurrentCell(found_rows[0] if found_rows else 0, 0)
    widget.ui.setupSection.collapsed = False


def save_picture(widget, path: Path) -> None:
    """Save the panel at its natural height."""
    parent = widget.parent
    parent.resize(WIDTH, 200)
    parent.show()
    QApplication.processEvents()
    parent.resize(WIDTH, parent.layout().totalHeightForWidth(WIDTH))
    for _repeat in range(3):
        QApplication.processEvents()
    path.parent.mkdir(parents=True, exist_ok=True)
    bottom = widget.ui.setupSection.mapTo(parent, widget.ui.setupSection.rect.bottomLeft()).y()
    parent.grab(QRect(0, 0, parent.width, bottom + MARGIN)).save(str(path))


def save_dark(widget, path: Path) -> None:
    """Save the panel in dark colors."""
    application, colors = QApplication.instance(), QPalette()
    light = application.palette()
    for role, color in DARK.items():
        colors.setColor(getattr(QPalette, role), QColor(color))
    application.setPalette(colors)
    save_picture(widget, path)
    application.setPalette(light)


def save_small_screen(widget, path: Path) -> None:
    """Save what a screen of 1366×768 shows, in a scroll area as Slicer's, right after a run."""
    area = QScrollArea()
    area.widgetResizable = True
    area.setWidget(widget.parent)
    area.resize(WIDTH + 20, SMALL_SCREEN)
    area.show()
    for _repeat in range(3):
        QApplication.processEvents()
    area.grab().save(str(path.with_stem(f"{path.stem}_opened")))
    widget.ui.localizeButton.click()
    wait(widget)
    area.grab().save(str(path))
    area.takeWidget()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="model id or file")
    parser.add_argument("--out", type=Path, default=ROOT / "Resources" / "Screenshots" / "panel.png")
    parser.add_argument("--checks", type=Path, metavar="FOLDER", help="also draw it dark, and on a small screen")
    arguments = parser.parse_args()
    application = QApplication.instance() or QApplication([])
    with open_headless_scene():
        widget = open_panel()
        wait(widget)
        widget.session.parameters.model = arguments.model
        learn_and_localize(widget)
        save_picture(widget, arguments.out)
        if arguments.checks is not None:
            arguments.checks.mkdir(parents=True, exist_ok=True)
            save_dark(widget, arguments.checks / "panel_dark.png")
            save_small_screen(widget, arguments.checks / "panel_small.png")
        widget.cleanup()
        widget.parent.close()
    del application
    print(arguments.out)


if __name__ == "__main__":
    main()
