"""Maps of other than three numbers per cell: made, read and kept like others, but not searched in."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import MapError, ModelError
from APELocalizerLib.core.embedding.map_files import load_map, save_map, to_compact
from APELocalizerLib.core.embedding.map_sampling import sample_on_grid
from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner
from APELocalizerLib.core.library.learning import learn_box, learn_points, learn_segmentation
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import localize
from made_up.maps import CLICKS, ORGAN, smooth_map
from made_up.models import tiny_model
from made_up.networks import AverageConfig, AverageNetwork
from made_up.scans import prepared_scan, random_image

REFUSED = "holds 5 numbers per place.*three anatomical coordinates. Choose a model"


@pytest.fixture(scope="module")
def five():
    """The average patient's three coordinates, and twice two of them."""
    three = smooth_map(name="five")
    return dataclasses.replace(three, values=np.concatenate([three.values, 2 * three.values[..., :2]], axis=-1))


@pytest.mark.parametrize("tile", [(32, 32, 32), (64, 64, 64)], ids=["tiles", "one tile"])
def test_a_network_of_five_channels_makes_a_map_of_five(using, tile):
    network = using(AverageNetwork(AverageConfig(embedding_dim=5)))
    scale = (100.0, 200.0, 300.0, 400.0, 500.0)
    model = tiny_model(
        network=network.config, state=network.state_dict(), scale=scale, offset=(0.0, 1.0, 2.0, 3.0, 4.0)
    )
    image = random_image((64, 40, 32))
    values = Runner(model, InferenceSettings("cpu", tile, one_pass=False)).embed(prepared_scan(image)).values
    means = image.reshape(16, 4, 10, 4, 8, 4).mean(axis=(1, 3, 5))[..., None]
    weights = np.array([0.5, 0.75, 1.0, 1.25, 1.5])
    np.testing.assert_allclose(values, scale / (1 + np.exp(-means * weights)) + np.arange(5), rtol=1e-5)
    with pytest.raises(ModelError, match="5 numbers in mm each"):
        dataclasses.replace(model, scale=(500.0, 500.0, 500.0))


def test_it_is_read_and_kept_like_others(five, tmp_path):
    save_map(five, tmp_path / "map.nrrd")
    back = load_map(tmp_path / "map.nrrd")
    np.testing.assert_array_equal(back.values[five.body], five.values[five.body])
    places = np.array(list(CLICKS.values()))
    three = smooth_map().embedding_at(places)
    for embedding_map in (back, mean_of_passes([five, dataclasses.replace(five, spacing="other")])):
        expected = np.concatenate([three, 2 * three[:, :2]], axis=1)
        np.testing.assert_allclose(embedding_map.embedding_at(places), expected, atol=1e-3)
    grid = np.array([[1.0, 0, 0, 3.3], [0, 1, 0, -12.7], [0, 0, 1, 61.9], [0, 0, 0, 1]])
    np.testing.assert_allclose(sample_on_grid(five, (1, 1, 1), grid)[0, 0, 0], expected[0], atol=1e-2)
    assert five.distance_volume(expected[0]).min() < 20


@pytest.mark.parametrize(
    "use",
    [
        lambda five: five.nearest(np.zeros((2, 3))),
        lambda five: five.nearest(np.zeros((2, 5))),
        lambda five: five.top_k(np.zeros(3), 2),
        to_compact,
        lambda five: learn_points(LandmarkLibrary(), five, CLICKS),
        lambda five: learn_box(LandmarkLibrary(), five, "liver", ORGAN),
        lambda five: learn_segmentation(
            LandmarkLibrary(), five, np.pad(np.ones((3, 3, 3), int), 9), np.diag([4.0, 4, 4, 1]), {1: "liver"}
        ),
        lambda five: localize(five, learn_points(LandmarkLibrary(), smooth_map(), CLICKS)),
    ],
    ids=["nearest", "nearest of five", "top k", "library file", "points", "box", "label map", "localize"],
)
def test_learning_and_finding_landmarks_in_it_is_refused_in_a_sentence(five, use):
    with pytest.raises(MapError, match=REFUSED):
        use(five)
