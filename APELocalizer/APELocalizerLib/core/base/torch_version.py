"""Which versions of PyTorch may open a model file from elsewhere; told from the version alone, without loading it."""

import re

from APELocalizerLib.core.base.errors import ModelError

SAFE_PYTORCH = (2, 6)
"""First version of PyTorch that loads weights without running what else a file holds."""


def loads_safely(version: str) -> bool:
    """Whether this version of PyTorch runs no code when it loads weights alone (CVE-2025-32434, mended in 2.6)."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= SAFE_PYTORCH


def check_loads_safely(name: str, version: str) -> None:
    """Raise `ModelError` if this version of PyTorch may run code that the file of this name was made to hold."""
    if not loads_safely(version):
        raise ModelError(
            f"{name} was not opened: PyTorch {version} can be made to run code by a prepared model file "
            "(CVE-2025-32434). Update PyTorch to 2.6 or later. The model that comes with the extension can be used."
        )
