"""A library in which nothing is left out."""

import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.entries import Code
from APELocalizerLib.core.library.learning import learn_box, learn_points
from made_up.maps import CLICKS, Patient, library_of, smooth_map


@pytest.fixture(scope="session")
def full(support_map):
    """Two shots, a code, a description with odd letters, an organ with its own enlargement."""
    patient = Patient((1.05, 0.97, 1.02))
    library = library_of((Patient(), support_map), (patient, smooth_map(patient, name="second")))
    code, text = Code("SCT", "28700002", "Carina of trachea"), 'Die "Carina" – 気管分岐部'
    library = learn_points(library, support_map, {"carina": CLICKS["carina"]}, {"carina": code}, {"carina": text})
    return learn_box(library, support_map, "liver", Box((-50, -30, -60), (40, 35, 70)), alpha=1.25)
