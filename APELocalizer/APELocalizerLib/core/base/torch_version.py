"""Which versions of PyTorch may open a model file from elsewhere; told from the version alone, without loading it."""

import re

SAFE_PYTORCH = (2, 6)
"""First version of PyTorch that loads weights without running what else a file holds."""


def loads_safely(version: str) -> bool:
    """Whether this version of PyTorch runs no code when it loads weights alone (CVE-2025-32434, mended in 2.6)."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= SAFE_PYTORCH
