"""Where the files that come with the extension lie."""

from pathlib import Path

_HERE = Path(__file__).resolve()


def resources_folder() -> Path:
    """Folder with Models and Libraries: beside the package in Slicer and in a checkout, inside it in a wheel."""
    beside, inside = _HERE.parents[3] / "Resources", _HERE.parents[2] / "Resources"
    return beside if (beside / "Models").is_dir() or not inside.is_dir() else inside
