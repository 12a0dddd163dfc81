"""Places are carried between two scans whose true correspondence is known by a formula."""

from dataclasses import replace

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import Cancelled, CorrespondenceError
from APELocalizerLib.core.base.geometry import Box, apply_affine
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.localization.correspondence import correspond
from APELocalizerLib.core.localization.symmetric_field import fit_affine, fit_field
from made_up.grids import grid_to_ras, rotation
from made_up.maps import Patient, map_of_scan, smooth_map
from made_up.scans import body_phantom, phantom_landmarks

SCALE, SHIFT = np.array([1.05, 0.95, 1.04]), np.array([12.0, -8.0, 30.0])
WRONG_MM = 11.0
"""What the coordinates of the second scan are off by, along each axis: one patient is read a little wrong."""


def phantom_map(scale=1.0, shift=0.0, off_mm=0.0, **scan):
    """Map of the torso with its coarse CT, whose coordinates are the position in the unmoved torso, `off_mm` wrong."""
    torso = body_phantom(scale=scale, shift=np.zeros(3) + shift, **scan)
    one_map = map_of_scan(torso, lambda points: (points - shift) / scale + off_mm, coarse_ct=CoarseCT.of(torso))
    body = apply_affine(one_map.grid_to_ras, np.indices(one_map.body.shape).reshape(3, -1).T)
    inside = ((((body - shift) / scale)[:, :2] / (170, 110)) ** 2).sum(axis=1) < 1
    return replace(one_map, body=inside.reshape(one_map.body.shape))


@pytest.fixture(scope="module")
def pair():
    """The torso, and a larger one that lies elsewhere and whose coordinates are wrong by 19 mm."""
    shape = (84, 60, 52)
    grid = grid_to_ras(shape, (5.0, 5.0, 5.0), center=SHIFT)
    return phantom_map(name="first"), phantom_map(SCALE, SHIFT, WRONG_MM, shape=shape, ijk_to_ras=grid, name="second")


@pytest.fixture(scope="module")
def correspondence(pair):
    return correspond(*pair)


def inner_points(count=300):
    """Places in the torso, of which the second scan shows most."""
    return np.random.default_rng(0).uniform((-120, -75, -110), (120, 75, 110), (count, 3))


def test_places_are_found_by_the_image_where_coordinates_are_wrong(correspondence):
    points = np.array(list(phantom_landmarks().values()))
    wanted = np.array(list(phantom_landmarks(SCALE, SHIFT).values()))
    carried = correspondence.to_second(points)
    errors = np.linalg.norm(carried.positions_ras - wanted, axis=1)[carried.in_view]
    assert np.linalg.norm([WRONG_MM] * 3) > 15
    assert carried.in_view.sum() >= 7 and np.median(errors) < 6 and errors.max() < 12


def test_both_directions_agree(correspondence):
    points = inner_points()
    there = correspondence.to_second(points)
    back = correspondence.to_first(there.positions_ras[there.in_view])
    assert there.in_view.sum() > 200
    assert np.abs(back.positions_ras - points[there.in_view]).max() < 0.05


def test_exchanging_the_scans_exchanges_the_directions(pair, correspondence):
    turned = correspond(*pair[::-1])
    one, other = correspondence.to_second(inner_points()), turned.to_first(inner_points())
    both = one.in_view & other.in_view
    assert np.linalg.norm(one.positions_ras - other.positions_ras, axis=1)[both].max() < 4


def test_answers_never_leave_the_field_of_view(pair, correspondence):
    everywhere = np.random.default_rng(1).uniform(-400, 400, (4000, 3))
    for answers, view in (
        (correspondence.to_second(everywhere), pair[1].field_of_view),
        (correspondence.to_first(everywhere), pair[0].field_of_view),
    ):
        assert answers.in_view.any() and not answers.in_view.all()
        assert view.contains(answers.positions_ras[answers.in_view]).all()
        assert np.isnan(answers.positions_ras[~answers.in_view]).all()
        assert np.isinf(answers.radius_90_mm[~answers.in_view]).all()
        assert np.isfinite(answers.expected_error_mm[answers.in_view]).all()


def test_what_a_short_scan_does_not_show_is_not_in_view():
    whole = smooth_map(Patient(), shape=(20, 22, 24), name="whole")
    half = smooth_map(Patient((1.0, 1.1, 0.95), (5, 0, 60)), shape=(20, 22, 11), center=(0, 0, 130), name="upper part")
    low, high = half.field_of_view.minimum[2], half.field_of_view.maximum[2]
    points = np.column_stack([np.zeros(25), np.zeros(25), np.linspace(-120, 120, 25)])
    truth = points * (1.0, 1.1, 0.95) + (5, 0, 60)
    in_view = correspond(whole, half).to_second(points).in_view
    assert not in_view[truth[:, 2] < low - 10].any()
    assert in_view[(truth[:, 2] > low + 10) & (truth[:, 2] < high - 10)].all()
    assert 5 < in_view.sum() < 20


def test_coordinates_alone_do_where_a_scan_has_no_coarse_ct():
    stretch, shift = (1.08, 0.94, 1.05), (10, -20, 35)
    second = smooth_map(Patient(stretch, shift), center=shift, name="second")
    carried = correspond(smooth_map(name="first"), second).to_second(inner_points() * 0.4)
    errors = np.linalg.norm(carried.positions_ras - (inner_points() * 0.4 * stretch + shift), axis=1)
    assert carried.in_view.all() and errors.max() < 3


@pytest.mark.parametrize("turn", [0, 30, 180])
def test_wrong_control_points_move_the_field_little(turn):
    random = np.random.default_rng(2)
    first = random.uniform(-150, 150, (300, 3))
    rotated = rotation(2, turn)[:3, :3]

    def truth(points):
        return (points + 12 * np.sin(points[:, [1, 2, 0]] / 90)) @ rotated.T + (900, -2000, 4000)

    second = truth(first) + random.normal(0, 1, first.shape)
    wrong = random.choice(300, 60, replace=False)
    second[wrong] += random.uniform(-80, 80, (60, 3))
    field = fit_field(first, second, np.full(300, 3.0))
    places = random.uniform(-110, 110, (200, 3))
    errors = np.linalg.norm(field.forward(places) - truth(places), axis=1)
    assert np.median(errors) < 3 and errors.max() < 10
    assert np.abs(field.backward(field.forward(places)) - places).max() < 0.05
    assert np.median(field.weights[wrong]) < 0.3 < 0.9 < np.median(np.delete(field.weights, wrong))


def test_a_field_stretches_beyond_its_control_points_as_they_do():
    first = np.random.default_rng(3).uniform(-200, 200, (200, 3))
    field = fit_field(first, first * (1.1, 0.9, 1.05) + (5, 6, 7), np.full(200, 3.0))
    far = np.array([[0, 0, 400.0], [-400, 0, 0]])
    assert field.forward(far) == pytest.approx(far * (1.1, 0.9, 1.05) + (5, 6, 7), abs=8)


def test_a_thin_slice_does_not_stretch_the_body():
    random = np.random.default_rng(6)
    first = random.uniform((-150, -100, -15), (150, 100, 15), (150, 3))
    pressed = first * (1.0, 1.0, 0.5) + random.normal(0, 3, first.shape)
    stretches = np.linalg.svd(fit_field(first, pressed, np.full(150, 3.0)).affine[:3, :3])[1]
    assert stretches.min() > 0.9


def test_a_rigid_transform_turns_without_stretching():
    first = np.random.default_rng(4).uniform(-100, 100, (50, 3))
    turned = first * 1.2 @ rotation(0, 20)[:3, :3].T + (1, 2, 3)
    rigid = fit_affine(first, turned, np.ones(50), ridge=np.inf)
    assert rigid[:3, :3] == pytest.approx(rotation(0, 20)[:3, :3], abs=1e-6)


def test_expected_errors_tell_where_control_points_disagree():
    random = np.random.default_rng(5)
    first = random.uniform(-150, 150, (300, 3))
    noise = np.where(first[:, [0]] > 0, 25.0, 1.0)
    field = fit_field(first, first + random.normal(0, 1, first.shape) * noise, np.full(300, 3.0))
    sides = np.array([[-90.0, 0, 0], [90, 0, 0]])
    calm, torn = field.doubt_at(sides, field.forward(sides))
    assert torn[1] > 3 * calm[1]
    alone = field.doubt_at(*[np.array([[0.0, 0, 205]])] * 2)[0]
    assert alone[0] > 2 * calm[0], "no control point is near"


# What cannot be related -----------------------------------------------------------------------------------------------


def test_the_same_scan_twice_is_refused(pair):
    for other in (pair[0], replace(pair[0], scan_name="a copy of it")):
        with pytest.raises(CorrespondenceError, match="“first” is given twice"):
            correspond(pair[0], other)


def test_scans_that_share_nothing_are_refused():
    high = smooth_map(Patient(shift=(0, 0, -900)), name="neck")
    with pytest.raises(CorrespondenceError, match="“pelvis” and “neck” do not seem to show a common part"):
        correspond(smooth_map(name="pelvis"), high)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [(CoordinateSpace("other@1"), "different models"), (CoordinateSpace("model@1", "abc"), "same reference")],
)
def test_coordinates_that_cannot_be_compared_are_refused(space, sentence):
    first = replace(smooth_map(name="first"), space=CoordinateSpace("model@1", "xyz"))
    with pytest.raises(CorrespondenceError, match=sentence):
        correspond(first, replace(smooth_map(name="second"), space=space))


def test_it_can_be_stopped(pair):
    with pytest.raises(Cancelled):
        correspond(*pair, cancelled=lambda: True)


def test_a_scan_may_lie_far_from_the_origin(pair):
    far = np.array([3000.0, -4000.0, 9000.0])
    moved = replace(pair[1])
    grid, view = pair[1].grid_to_ras.copy(), pair[1].field_of_view
    grid[:3, 3] += far
    ct = pair[1].coarse_ct.grid_to_ras.copy()
    ct[:3, 3] += far
    moved = replace(
        pair[1],
        grid_to_ras=grid,
        field_of_view=Box(tuple(view.minimum + far), tuple(view.maximum + far)),
        coarse_ct=CoarseCT(pair[1].coarse_ct.codes, ct),
    )
    here, there = (correspond(pair[0], other).to_second(inner_points(50)) for other in (pair[1], moved))
    both = here.in_view & there.in_view
    assert np.abs(there.positions_ras - far - here.positions_ras)[both].max() < 3
