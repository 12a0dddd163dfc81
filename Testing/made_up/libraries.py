"""Library files with one thing changed."""

import json
from collections.abc import Callable

from APELocalizerLib.core.library.files import to_json
from APELocalizerLib.core.library.library import LandmarkLibrary


def changed(library: LandmarkLibrary, change: Callable[[dict], object]) -> str:
    """The file of a library after `change` has been made to its content."""
    content = json.loads(to_json(library))
    change(content)
    return json.dumps(content)
