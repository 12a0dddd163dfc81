"""Puts the module's folder on the path, so that tests import the code that Slicer installs."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT / "APELocalizer", ROOT / "Testing"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

pytest_plugins = ["made_up.patients"]
