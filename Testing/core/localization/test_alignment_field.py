"""The field by which coordinates are put right: against another program's, and which landmarks it follows."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.localization import alignment
from APELocalizerLib.core.localization.alignment import FEWEST, Reference, align
from made_up.grids import grid_to_ras
from made_up.maps import map_of
from made_up.models import MODEL_ID

SPACE = CoordinateSpace(MODEL_ID, "a reference")
CORNERS = np.array([(x, y, z) for x in (-40, 40) for y in (-40, 40) for z in (-60, 60)], float)


def a_map(off=(0.0, 0.0, 0.0), body=None):
    """Cells of 8 mm, 160 mm wide and deep and 200 mm high; coordinates are positions, off by a constant."""
    shape = (20, 20, 25)
    grid = grid_to_ras(shape, (8.0, 8.0, 8.0))
    view = np.array([-80.0, -80.0, -100.0]), np.array([80.0, 80.0, 100.0])
    one_map = map_of(shape, grid, lambda positions: positions + np.array(off), body).with_coarse_ct("a coarse CT")
    np.testing.assert_allclose([one_map.field_of_view.minimum, one_map.field_of_view.maximum], view)
    return one_map


def reference(coordinates) -> SimpleNamespace:
    """Landmarks with these coordinates."""
    return SimpleNamespace(
        landmarks=len(coordinates), coordinates=np.array(coordinates, float), templates=(), space=SPACE
    )


class AnImage:
    """In place of `refine_known`: every landmark is found at its `places` (n, 3), whatever the coordinates say."""

    def __init__(self, places) -> None:
        self.places, self.asked = np.array(places, float), []

    def __call__(self, scan, templates, queries, start, cancelled):
        self.asked.append((list(queries), start.copy()))
        return self.places[queries]


@pytest.fixture
def an_image(monkeypatch):
    def finds(places):
        image = AnImage(places)
        monkeypatch.setattr(alignment, "refine_known", image)
        return image

    return finds


def gaussian_process(coordinates, off, noise_mm):
    """The same field by scipy: it varies by 20 mm, over 300 mm; a landmark is off by `noise_mm`."""
    return RBFInterpolator(
        coordinates, off, smoothing=(np.asarray(noise_mm) / 20.0) ** 2, kernel="gaussian",
        epsilon=1 / (np.sqrt(2) * 300.0), degree=-1,
    )  # fmt: skip


PROBES = np.array([[0, 0, 0], [10, -20, 30], [60, 60, 80], [-70, 20, -90]], float)


def test_the_field_is_a_gaussian_process_through_the_differences(an_image):
    """Landmarks of coordinates off by 10 mm plus a tilt, none mistaken: once from where the coordinates point."""
    rng = np.random.default_rng(0)
    off = np.array([6.0, -5.0, 8.0]) + 0.03 * CORNERS[:, [1, 2, 0]] + rng.normal(0, 1, CORNERS.shape)
    an_image(CORNERS + off)  # the image finds them where the map's coordinates are off by this
    aligned = align(a_map(), reference(CORNERS))
    field = gaussian_process(CORNERS, off, np.full(8, 15.0))
    true = PROBES - field(PROBES)
    np.testing.assert_allclose(aligned.embedding_at(PROBES), PROBES - field(true), atol=0.05)
    assert aligned.space == SPACE and aligned.coarse_ct == "a coarse CT"


def test_a_mistaken_landmark_counts_less_with_every_fit(an_image):
    """One of eight is 60 mm off; 25 mm away from the others it counts half."""
    off = np.tile([6.0, -5.0, 8.0], (8, 1))
    off[2] += (0, 0, 60.0)
    an_image(CORNERS + off)
    aligned = align(a_map(), reference(CORNERS))
    noise = np.full(8, 15.0)
    for _ in range(4):
        field = gaussian_process(CORNERS, off, noise)
        away = np.linalg.norm(off - field(CORNERS), axis=1)
        noise = 15.0 * np.maximum(1.0, away / 25.0)
    assert away[2] > 45
    np.testing.assert_allclose(aligned.embedding_at(PROBES), PROBES - field(PROBES - field(PROBES)), atol=0.05)


def test_landmarks_are_sought_three_times_each_time_from_where_the_field_before_points(an_image):
    """The coordinates are off by 10 mm. The first field takes nearly all of it, so that later searches start right."""
    off = np.array([0.0, 0.0, 10.0])
    image = an_image(CORNERS)
    aligned = align(a_map(off), reference(CORNERS))
    assert len(image.asked) == 3
    first, second, third = (start for _, start in image.asked)
    np.testing.assert_allclose(first, CORNERS - off, atol=0.1)
    field = gaussian_process(CORNERS, np.tile(off, (8, 1)), np.full(8, 15.0))
    np.testing.assert_allclose(second, CORNERS - off + field(CORNERS), atol=0.1)
    np.testing.assert_allclose(third, second, atol=0.1)
    assert np.abs(aligned.embedding_at(PROBES) - PROBES).max() < 2.0


def test_landmarks_count_up_to_8_mm_from_the_border(an_image):
    """At the border others pile up, which lie beyond it. Along every axis, at both ends."""
    inside = (
        [(s * 71.5, 0, 0) for s in (-1, 1)] + [(0, s * 71.5, 0) for s in (-1, 1)] + [(0, 0, s * 91.5) for s in (-1, 1)]
    )
    beyond = [tuple(np.array(place) * 1.02) for place in inside]
    image = an_image(np.vstack([inside, beyond]))
    align(a_map(), reference(image.places))
    assert image.asked[0][0] == [0, 1, 2, 3, 4, 5]


def test_landmarks_count_if_the_map_has_their_coordinates_to_within_12_mm(an_image):
    """A hole in the body: in its middle nothing comes near the coordinates, at its rim they are met."""
    one_map = a_map(body=lambda positions: np.linalg.norm(positions, axis=1) > 36)
    places = np.vstack([CORNERS, np.linspace([0, 0, 0], [36, 0, 0], 19)])
    distances = one_map.nearest(places).distances
    assert np.sum(np.abs(distances - 12) < 6) >= 2 and distances.max() > 18, "some on either side"
    image = an_image(places)
    align(one_map, reference(places))
    assert image.asked[0][0] == list(np.flatnonzero(distances <= 12.0))


@pytest.mark.parametrize("count", [FEWEST - 1, FEWEST])
def test_four_landmarks_in_view_are_needed(an_image, count):
    far = np.full((4, 3), 900.0)
    places = np.vstack([CORNERS[:count], far])
    image = an_image(places)
    one_map = a_map((0.0, 0.0, 5.0))
    aligned = align(one_map, reference(places))
    assert (aligned is one_map) is (count < 4) and len(image.asked) == (3 if count >= 4 else 0)


def test_a_reference_with_too_few_landmarks_changes_nothing(an_image):
    image = an_image(CORNERS)
    one_map = a_map((0.0, 0.0, 5.0))
    assert align(one_map, reference(CORNERS[:3])) is one_map and image.asked == []
    assert align(one_map, reference(CORNERS[:4])) is not one_map


def test_only_the_body_has_coordinates_to_put_right(an_image):
    """What the network says about air stays as it is; and the map that was given, too."""
    an_image(CORNERS)
    one_map = a_map((0.0, 0.0, 10.0), body=lambda positions: np.abs(positions[:, 0]) < 60)
    before = one_map.values.copy()
    aligned = align(one_map, reference(CORNERS))
    np.testing.assert_array_equal(one_map.values, before)
    np.testing.assert_array_equal(aligned.values[~aligned.body], before[~one_map.body])
    assert np.abs(aligned.values[aligned.body] - before[one_map.body]).max() > 5


def test_coordinates_of_a_landmark_are_the_mean_of_its_shots():
    library = SimpleNamespace(
        supports=[SimpleNamespace(id=name, coarse_ct=ct) for name, ct in (("a", "ct"), ("b", ""), ("c", "ct"))],
        landmarks=[
            SimpleNamespace(shots=[shot("b", 90)]),  # on a support without a coarse CT: not a landmark here
            SimpleNamespace(shots=[shot("a", 1), shot("b", 90), shot("c", 3)]),
            SimpleNamespace(shots=[shot("c", 8)]),
        ],
    )
    known = Reference(library)
    assert known.landmarks == 2
    np.testing.assert_allclose(known.coordinates, [(2, 4, 2), (8, 16, 8)])
    np.testing.assert_array_equal(known.shots.query, [0, 0, 1])
    np.testing.assert_array_equal(known.shots.support, [0, 2, 2])
    np.testing.assert_array_equal(known.shots.click, [(-1, 0, 0), (-3, 0, 0), (-8, 0, 0)])


def test_a_reference_is_named_by_its_shots_and_coarse_cts_alone():
    """Sixteen letters, as they stand in maps; another model, position, embedding or image changes them."""

    def digest(model_id="m", coarse_ct="ct", number=1.0, position=None):
        one = SimpleNamespace(**{**vars(shot("a", number)), **({"position_ras": position} if position else {})})
        library = SimpleNamespace(
            model_id=model_id,
            supports=[SimpleNamespace(id="a", coarse_ct=coarse_ct)],
            landmarks=[SimpleNamespace(shots=[one])],
        )
        return Reference(library).digest

    assert digest() == digest() and len(digest()) == 16 and set(digest()) <= set("0123456789abcdef")
    others = [digest("n"), digest(coarse_ct="another"), digest(number=2.0), digest(position=(0, 0, 1))]
    assert len({digest(), *others}) == 5


def shot(support: str, number: float) -> SimpleNamespace:
    return SimpleNamespace(support_id=support, position_ras=(-number, 0, 0), embedding=(number, 2 * number, number))
