"""Names as clinicians say them."""

import pytest

from APELocalizerLib.core.library.spoken_names import spoken_name, spoken_names


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("lung_apex_right", "right lung apex"),
        ("kidney_right_upper_pole", "right kidney upper pole"),
        ("diaphragm dome Left", "left diaphragm dome"),
        ("right lung apex", "right lung apex"),
        ("carina", "carina"),
        ("aortic_arch_top", "aortic arch top"),
        ("rib_left_4", "left rib 4"),
        ("vertebrae_L1", "L1 vertebra"),
        ("tip left of the midline", "tip left of the midline"),
        ("from_left_to_right", "from left to right"),
    ],
)
def test_the_side_stands_in_front(name, spoken):
    assert spoken_name(name) == spoken


def test_names_that_would_be_spoken_alike_keep_their_own():
    names = ["lung_apex_right", "right lung apex", "lung_apex_left"]
    assert spoken_names(names) == {
        "lung_apex_right": "lung_apex_right",
        "right lung apex": "right lung apex",
        "lung_apex_left": "left lung apex",
    }
