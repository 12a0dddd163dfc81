"""How damaged files are made by hypothesis and tried."""

import os
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings

from APELocalizerLib.core.base.errors import APELocalizerError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=EXAMPLES, derandomize=EXAMPLES <= 60, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


def tried(reader: Callable, path: Path) -> object:
    """What a reader gives, or None if it refuses in words; everything else fails the test."""
    try:
        return reader(path)
    except APELocalizerError as error:
        assert path.name.split(".")[0] in str(error) and str(error).rstrip("”").endswith((".", "?"))
        return None
