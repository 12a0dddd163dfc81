"""Names on a picture do not cover each other."""

import pytest

from APELocalizerLib.scene.labels import Label, _overlap, place_labels

PICTURE = (600, 400)


@pytest.mark.parametrize("spread", [0, 6, 12])
def test_crowded_names_do_not_overlap(spread):
    anchors = [Label(f"landmark {n}", (300.0 + spread * n, 200.0), 15) for n in range(5)]
    placed = place_labels(anchors, PICTURE)
    assert [label.text for label in placed] == [anchor.text for anchor in anchors]
    for n, label in enumerate(placed):
        assert all(_overlap(label.extent, other.extent) == 0 for other in placed[n + 1 :])


@pytest.mark.parametrize("corner", [(0, 0), (599, 0), (0, 399), (599, 399)])
def test_names_stay_in_the_picture(corner):
    (label,) = place_labels([Label("right lung apex", corner, 15)], PICTURE)
    left, bottom, right, top = label.extent
    assert left >= 0 and bottom >= 0 and right <= PICTURE[0] and top <= PICTURE[1]


def test_names_of_points_outside_are_left_out():
    assert place_labels([Label("pelvis", (300, -50), 15)], PICTURE) == []


def test_lone_name_stands_right_of_its_point():
    (label,) = place_labels([Label("carina", (300, 200), 15)], PICTURE)
    assert 300 < label.position[0] < 315
    assert label.extent[1] < 200 < label.extent[3]
