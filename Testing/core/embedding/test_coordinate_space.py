"""What is compared with what: same model, and not aligned with two different references."""

import itertools

import pytest

from APELocalizerLib.core.embedding.coordinate_space import UNKNOWN_REFERENCE, CoordinateSpace

PLAIN, WITH_A, WITH_B, WITH_UNKNOWN = (CoordinateSpace("model@1", name) for name in (None, "a", "b", UNKNOWN_REFERENCE))


def test_only_two_different_references_cannot_be_compared():
    pairs = list(itertools.product((PLAIN, WITH_A, WITH_B, WITH_UNKNOWN), repeat=2))
    assert [pair for pair in pairs if not pair[0].fits(pair[1])] == [(WITH_A, WITH_B), (WITH_B, WITH_A)]


def test_two_models_can_never_be_compared():
    assert not PLAIN.fits(CoordinateSpace("model@2"))
    assert not WITH_A.fits(CoordinateSpace("model@2", "a"))


@pytest.mark.parametrize("spaces", list(itertools.permutations((PLAIN, WITH_UNKNOWN, WITH_A))))
def test_what_is_kept_together_has_the_reference_of_its_aligned_parts(spaces):
    assert CoordinateSpace.shared(spaces) == WITH_A
    assert CoordinateSpace.shared([PLAIN, PLAIN]) == PLAIN
    assert CoordinateSpace.shared([PLAIN, WITH_UNKNOWN]) == WITH_UNKNOWN
    assert CoordinateSpace.shared([]) is None


@pytest.mark.parametrize("spaces", list(itertools.permutations((PLAIN, WITH_A, WITH_B))))
def test_what_cannot_be_compared_cannot_be_kept_together(spaces):
    with pytest.raises(ValueError, match="reference library a and .*reference library b|b and .*library a"):
        CoordinateSpace.shared(spaces)
