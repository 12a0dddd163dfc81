"""Adds the embedded weights and libraries to a wheel.

Slicer installs `Resources` beside `APELocalizerLib`, and an editable install finds it there in the checkout. A wheel
must not put a folder named `Resources` into site-packages, so there the same files go inside the package.
"""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

RESOURCES = Path(__file__).parent / "APELocalizer" / "Resources"
SHIPPED = ("Models", "Libraries")


class BuildWithResources(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return
        for folder in SHIPPED:
            if (RESOURCES / folder).is_dir():
                copytree(
                    RESOURCES / folder,
                    Path(self.build_lib) / "APELocalizerLib" / "Resources" / folder,
                    dirs_exist_ok=True,
                    ignore=ignore_patterns("__pycache__"),
                )


setup(cmdclass={"build_py": BuildWithResources})
