"""How positions, image and round trip are put together: with an image that says what we tell it to say."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.localization import matching
from APELocalizerLib.core.localization.matching import can_be_compared, refine_and_check
from APELocalizerLib.core.localization.queries import Shots
from made_up.maps import smooth_map
from made_up.models import MODEL_ID

CLICK = np.array([10.0, -5.0, 20.0])
MOVE = np.array([8.0, 4.0, -6.0])
"""Where the image moves every position."""


class AnImage:
    """In place of `matching.refine`: on the scan all moves by `MOVE`; back on support n it is `off[n]` mm off."""

    def __init__(self, off) -> None:
        self.off, self.asked = np.array(off, float), []

    def __call__(self, scans, scan, supports, query, support, clicks, start, cancelled=None, progress=None):
        self.asked.append((list(scans), np.array(scan), np.array(support), np.array(clicks), np.array(start)))
        if len(self.asked) == 1:
            return start + MOVE, np.arange(len(start)) + 1.0
        return CLICK + np.stack([0 * self.off[scan], self.off[scan], 0 * self.off[scan]], axis=1), np.zeros(len(start))


@pytest.fixture
def an_image(monkeypatch):
    def says(*off):
        image = AnImage(off)
        monkeypatch.setattr(matching, "refine", image)
        return image

    return says


def a_map(name, aligned=True, coarse_ct=True):
    one_map = dataclasses.replace(smooth_map(name=name), space=CoordinateSpace(MODEL_ID, "a" if aligned else None))
    return dataclasses.replace(one_map, coarse_ct=f"CT of {name}" if coarse_ct else None)


def refined(supports: int, round_trips, aligned=True, bare=(), start=(0.0, 0.0, 0.0), scan=None, round_trip_mm=3.0):
    """One query that was clicked on all supports, found at `start` by its coordinates."""
    scan = scan or a_map("scan", aligned)
    maps = [a_map(f"s{n}", aligned, n not in bare) for n in range(supports)]
    clicks = np.tile(CLICK, (supports, 1))
    shots = Shots(np.zeros(supports, int), np.arange(supports), clicks, maps[0].embedding_at(clicks))
    start, trips = np.array([start], float), np.array([round_trip_mm])
    return refine_and_check(scan, maps, shots, start, trips, np.array([round_trips]))


@pytest.mark.parametrize(("off", "part"), [(0.0, 1.0), (30.0, 0.5), (60.0, 0.2), (10.0, 0.9)])
def test_the_less_a_position_leads_back_the_less_it_is_moved(an_image, off, part):
    """30 mm off: half the way. One that leads back to 10 mm goes nine tenths, to 60 mm a fifth."""
    an_image(off)
    positions, _, _ = refined(1, 1)
    np.testing.assert_allclose(positions, [part * MOVE])


def test_coordinates_that_are_not_aligned_are_not_trusted_more_than_the_image(an_image):
    an_image(60.0)
    np.testing.assert_allclose(refined(1, 1, aligned=False)[0], [MOVE])


def test_the_round_trip_is_the_root_mean_square_of_coordinates_and_image(an_image):
    an_image(4.0)
    _, round_trip_mm, signals = refined(1, 1, round_trip_mm=3.0)
    np.testing.assert_allclose(round_trip_mm, [np.sqrt((9 + 16) / 2)])
    assert (signals.coordinates_mm[0], signals.image_mm[0], signals.steps_mm[0]) == (3.0, 4.0, 1.0)


def test_without_a_second_round_trip_the_coordinates_say_it_alone(an_image):
    image = an_image(4.0)
    positions, round_trip_mm, signals = refined(1, 0, round_trip_mm=3.0)
    assert round_trip_mm == [3.0] and np.isnan(signals.image_mm).all()
    np.testing.assert_allclose(positions, [MOVE])
    assert len(image.asked[-1][4]) == 0 or len(image.asked) == 1


def test_the_numbers_given_are_left_as_they_are(an_image):
    an_image(4.0)
    trips, start = np.array([3.0]), np.zeros((1, 3))
    scan, support = a_map("scan"), a_map("s0")
    shots = Shots(np.zeros(1, int), np.zeros(1, int), CLICK[None], support.embedding_at(CLICK[None]))
    refine_and_check(scan, [support], shots, start, trips, np.ones(1, int))
    assert trips == [3.0] and not start.any()


@pytest.mark.parametrize(
    ("supports", "most", "asked"),
    [(5, 3, [0, 2, 4]), (3, 3, [0, 1, 2]), (2, 3, [0, 1]), (7, 1, [0]), (5, 2, [0, 4]), (9, 3, [0, 4, 8])],
)
def test_the_supports_of_the_round_trip_are_spread_over_the_library(an_image, supports, most, asked):
    image = an_image(*range(supports))
    _, _, signals = refined(supports, most)
    assert sorted(image.asked[1][1]) == asked
    assert signals.image_mm == [np.median(asked)], "support n is n mm off"


def test_supports_without_a_coarse_ct_are_not_asked(an_image):
    image = an_image(0, 1, 2, 3)
    refined(4, 3, bare=(0, 2))
    assert sorted(image.asked[1][1]) == [1, 3]


def test_a_query_whose_supports_all_lack_a_coarse_ct_keeps_the_round_trip_of_its_coordinates(an_image):
    an_image(2.0, 8.0)
    scan, maps = a_map("scan"), [a_map("s0"), a_map("s1", coarse_ct=False)]
    clicks = np.tile(CLICK, (2, 1))
    shots = Shots(np.arange(2), np.arange(2), clicks, maps[0].embedding_at(clicks))
    _, trips, signals = refine_and_check(scan, maps, shots, np.zeros((2, 3)), np.array([6.0, 7.0]), np.array([1, 1]))
    np.testing.assert_allclose(trips, [np.sqrt((36 + 4) / 2), 7.0])
    np.testing.assert_allclose(signals.image_mm, [2.0, np.nan])


def test_the_round_trip_starts_from_the_refined_position(an_image):
    """The click of the return is the position on the scan, and the coordinates there say where to start."""
    image = an_image(0.0)
    refined(1, 1, start=CLICK)
    scans, _, support, clicks, start = image.asked[1]
    np.testing.assert_allclose(clicks, [CLICK + MOVE])
    np.testing.assert_allclose(start, [CLICK + MOVE], atol=0.5, err_msg="the same patient")
    assert scans == ["CT of s0"] and list(support) == [0]


def test_a_position_is_not_moved_out_of_the_field_of_view(an_image):
    """The field of view ends 5 mm to the right of where the coordinates point; the image pulls 8 mm."""
    an_image(0.0)
    scan = dataclasses.replace(a_map("scan"), field_of_view=Box((-80, -88, -144), (5, 88, 144)))
    np.testing.assert_allclose(refined(1, 1, scan=scan)[0], [[0, 0, 0]])
    an_image(0.0)
    np.testing.assert_allclose(refined(1, 1)[0], [MOVE])


def test_queries_are_decided_each_by_itself(an_image):
    """The second query has two shots, the third none that is checked."""
    image = an_image(2.0, 8.0)
    scan, maps = a_map("scan"), [a_map("s0"), a_map("s1")]
    query, support = np.array([0, 1, 1, 2]), np.array([1, 0, 1, 0])
    clicks = np.tile(CLICK, (4, 1))
    shots = Shots(query, support, clicks, maps[0].embedding_at(clicks))
    start = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    positions, trips, signals = refine_and_check(scan, maps, shots, start, np.array([6.0, 7, 9]), np.array([1, 2, 0]))
    np.testing.assert_allclose(signals.image_mm, [8, 5, np.nan])
    np.testing.assert_allclose(trips, [np.sqrt((36 + 64) / 2), np.sqrt((49 + 25) / 2), 9])
    np.testing.assert_allclose(positions - start, MOVE * np.array([[1 / (1 + 64 / 900)], [1 / (1 + 25 / 900)], [1]]))
    assert list(image.asked[0][1]) == [0, 0, 0] and list(image.asked[1][1]) == [1, 0, 1]


def test_scan_and_a_support_need_a_coarse_ct_to_be_compared():
    full, bare = a_map("full"), a_map("bare", coarse_ct=False)
    assert can_be_compared(full, [bare, full]) and can_be_compared(full, [full])
    assert not can_be_compared(bare, [full]) and not can_be_compared(full, [bare]) and not can_be_compared(full, [])
