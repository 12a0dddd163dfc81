"""Where the limits of a library's entries lie, and what an entry is by default."""

import pytest

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.library.entries import EDGES, Landmark, Organ, OrganShot, Shot

SIX = tuple((float(n), 0.0, 0.0) for n in range(6))


def shot(position=(1, 2, 3)) -> Shot:
    return Shot("s", position, (4, 5, 6), "2026-01-02")


def organ(**changes) -> Organ:
    return Organ(**{"name": "liver", "shots": (OrganShot("s", SIX, SIX, ""),), **changes})


def test_positions_reach_a_kilometer_and_no_farther():
    assert shot((0, 0, -1e6)).position_ras == (0.0, 0.0, -1e6)
    for position in ((1_000_001, 0, 0), (0, 0, -1_000_001)):
        with pytest.raises(LibraryError, match="impossibly far"):
            shot(position)


def test_names_have_at_most_200_letters():
    assert Landmark("x" * 200, (shot(),)).name == "x" * 200
    with pytest.raises(LibraryError, match="has 201 letters"):
        Landmark("x" * 201, (shot(),))


@pytest.mark.parametrize("name", ["two\nlines", "\ud800", "tab\t"])
def test_names_that_cannot_be_written_are_refused(name):
    with pytest.raises(LibraryError, match="line break or a character"):
        Landmark(name, (shot(),))


def test_boxes_are_enlarged_by_a_half_to_ten_times_and_by_nothing_unless_told():
    assert organ().alpha == 1.0
    assert [organ(alpha=alpha).alpha for alpha in (0.5, 10)] == [0.5, 10]
    for alpha in (0.49, 10.1, float("inf")):
        with pytest.raises(LibraryError, match="between 0.5 and 10"):
            organ(alpha=alpha)


def test_an_organ_is_checked_as_a_landmark_is():
    with pytest.raises(LibraryError, match="needs a name"):
        organ(name=" ")
    with pytest.raises(LibraryError, match="not learned on any support"):
        organ(shots=())
    with pytest.raises(LibraryError, match='support of "liver" "s" occurs twice'):
        organ(shots=(OrganShot("s", SIX, SIX, ""),) * 2)


def test_points_given_as_lists_are_kept_as_what_a_file_gives_back():
    """So that a library just learned equals the one that is read again."""
    given = OrganShot("s", [[n, 0, 0] for n in range(6)], [[n, 0, 0] for n in range(6)], "")
    assert given == OrganShot("s", SIX, SIX, "") and hash(given) == hash(OrganShot("s", SIX, SIX, ""))
    assert shot([1, 2, 3]) == shot()


def test_extreme_points_go_from_left_to_right_from_back_to_front_from_feet_to_head():
    assert EDGES == ("rmin", "rmax", "amin", "amax", "smin", "smax")
