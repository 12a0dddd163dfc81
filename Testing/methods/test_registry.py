"""Every method is found by its name and has the whole interface."""

import pytest

from APELocalizerLib.core.base.errors import EvaluationError
from APELocalizerLib.methods.method import Clock
from APELocalizerLib.methods.registry import BASELINES, MAKERS, Workshop, make_methods
from made_up.files import small_torso
from made_up.maps import map_of_scan


def test_methods_come_in_the_order_named_and_once():
    methods = make_methods(["affine", "body-box", "affine"], Workshop())
    assert [method.name for method in methods] == ["affine", "body-box"]


@pytest.mark.parametrize("name", BASELINES)
def test_every_method_has_the_whole_interface(name):
    [method] = make_methods([name], Workshop())
    assert method.name == name and isinstance(method.clock, Clock)
    assert isinstance(method.says_not_found, bool) and isinstance(method.slow_per_pair, bool)
    assert all(callable(getattr(method, action)) for action in ("prepare", "learn", "find"))


def test_the_second_registration_goes_on_from_the_first():
    bspline, affine = make_methods(["bspline", "affine"], Workshop())
    assert bspline.affine is affine and bspline.slow_per_pair and affine.slow_per_pair


def test_correspondences_use_the_maps_of_the_product():
    correspondence, ape = make_methods(["correspondence", "ape"], Workshop())
    torso = small_torso()
    ape.maps["torso"] = map_of_scan(torso, lambda points: points)
    correspondence.prepare("torso", torso)
    assert ape.clock.spent == {}, "the scan was embedded again"


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(EvaluationError, match="no method called “magic”") as raised:
        make_methods(["body-box", "magic"], Workshop())
    assert all(name in str(raised.value) for name in MAKERS) and len(str(raised.value).splitlines()) == 1
