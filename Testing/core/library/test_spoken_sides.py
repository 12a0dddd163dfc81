"""Where a side is a side, and where it only looks like one."""

import pytest

from APELocalizerLib.core.library.spoken_names import spoken_name, spoken_names


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("lung_right", "right lung"),
        ("Right lung apex", "Right lung apex"),
        ("LEFT", "LEFT"),
        ("rib LEFT 4", "left rib 4"),
        ("pole_left_and_center", "pole left and center"),
        ("edge_right_OF_midline", "edge right OF midline"),
        ("left_of_midline", "left of midline"),
        ("right_lung_left_border", "right lung left border"),
        ("midline_of_right", "right midline of"),
        ("vertebrae", "vertebrae"),
        ("Vertebrae T12", "T12 vertebra"),
        ("vertebrae_L1_body", "vertebrae L1 body"),
        ("disc_L1", "disc L1"),
        (" _lung__apex  right_ ", "right lung apex"),
    ],
)
def test_only_a_single_side_behind_the_first_word_is_moved(name, spoken):
    assert spoken_name(name) == spoken


def test_the_same_name_twice_is_one_name():
    assert spoken_names(["lung_apex_right", "lung_apex_right"]) == {"lung_apex_right": "right lung apex"}
    assert spoken_names([]) == {}
