"""`localize --scene`: the scene and the picture that Slicer's users get."""

import importlib.util
import inspect
import subprocess
import sys

import numpy as np
import pytest

from APELocalizerLib.cli import scene_output
from APELocalizerLib.cli.program import main
from made_up.files import POINTS

needs_slicer = pytest.mark.skipif(importlib.util.find_spec("slicer") is None, reason="slicer-core is not installed")


@pytest.fixture(scope="module")
def result_folder(made, tmp_path_factory):
    """Folder that `localize --scene` wrote."""
    out = tmp_path_factory.mktemp("scene") / "out"
    arguments = ["localize", made.scan, "--library", made.library, "--out", out, "--model", made.model, "--scene"]
    assert main([str(each) for each in arguments]) == 0
    return out


@needs_slicer
def test_scene_opens_again_with_scan_landmarks_and_library(result_folder):
    import slicer

    from APELocalizerLib.scene.headless import load_scene, open_headless_scene
    from APELocalizerLib.scene.state import load_state
    from APELocalizerLib.scene.volumes import points_from_markups

    with open_headless_scene() as headless:
        load_scene(result_folder / "scene.mrb")
        points = points_from_markups(slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")[0])
        names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
        library = load_state(headless.scene).library
    assert "support" in names
    assert library.names == ("bone", "left lung", "right lung", "right lung box")
    for name, position in POINTS.items():
        assert np.linalg.norm(points[name] - position) < 2


@needs_slicer
def test_picture_shows_a_body_between_black_borders(result_folder):
    from PIL import Image

    picture = np.asarray(Image.open(result_folder / "views.png").convert("L"))
    assert picture.shape[0] > 300 and picture.shape[1] > 900
    assert 0.05 < (picture > 60).mean() < 0.9


def test_missing_packages_are_named_before_anything_is_computed(run, files, monkeypatch):
    monkeypatch.setattr(scene_output, "find_spec", lambda name: None)
    done = run(
        "localize", files.scan, "--library", files.library, "--out", files.out, "--model", files.model, "--scene"
    )
    assert done.code == 1 and "slicer-core" in done.errors and done.errors.count("\n") == 1
    assert not files.out.exists()


@needs_slicer
def test_scenes_need_nothing_that_only_the_application_has():
    """In a process of its own, because other tests put stand-ins for the application's modules into this one."""
    source = inspect.getsource(scene_output.scene_writer)
    imports = [line.strip() for line in source.splitlines() if line.strip().startswith("from ")]
    assert len(imports) >= 4
    done = subprocess.run([sys.executable, "-c", "\n".join(imports)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-300:]
