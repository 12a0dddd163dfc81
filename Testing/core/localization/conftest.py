"""A library with an organ, and another patient to find it in."""

import pytest

from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.library.learning import learn_box
from made_up.maps import ORGAN, OTHER_PATIENT, smooth_map


@pytest.fixture(scope="session")
def organ_library(library, support_map):
    """Three landmarks and a liver."""
    return learn_box(library, support_map, "liver", ORGAN, Code("SCT", "10200004", "Liver"), alpha=1.2)


@pytest.fixture(scope="session")
def target():
    """Another patient's whole trunk."""
    return smooth_map(OTHER_PATIENT, shape=(24, 26, 28), name="target")
