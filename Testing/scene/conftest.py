"""An open headless scene with a synthetic torso, a perfect embedding map of it, and results to show on it."""

import numpy as np
import pytest

from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.localization.answers import Localization, LocatedOrgan, LocatedPoint
from APELocalizerLib.scene.headless import add_volume, open_headless_scene
from made_up.maps import torso_map
from made_up.nodes import CARINA, LIVER, LIVER_BOX, located, located_box
from made_up.scans import body_phantom, reoriented


@pytest.fixture
def a_scene():
    with open_headless_scene() as headless:
        yield headless.scene


@pytest.fixture
def a_volume_node(a_scene):
    """The torso, 5 mm voxels, stored left-posterior-superior so that no axis is trivially right."""
    scan = reoriented(body_phantom(), (0, 1, 2), (True, True, False))
    return add_volume(scan.voxels, scan.ijk_to_ras, "torso")


@pytest.fixture
def an_embedding_map():
    return torso_map(np.eye(4))


@pytest.fixture
def a_localization():
    return Localization(
        points=(
            located("carina", CARINA),
            located("liver", (70.0, 10.0, -45.0)),
            LocatedPoint("bladder", False, None, (0.0, 0.0, 0.0), 80.0, 40.0, "outside the scan", (1.0, 0.8, 0.2)),
        ),
        organs=(
            located_box("liver box", LIVER_BOX, LIVER),
            LocatedOrgan(
                "uterus", False, None, None, 1.0, 0.0, 70.0, 30.0, (CARINA,) * 6, "outside the scan", (1.0, 0.0, 0.0)
            ),
        ),
        space=CoordinateSpace("model@1"),
        spacing="standard",
        scan_name="torso",
        rule="robust",
        threshold_mm=20.0,
    )
