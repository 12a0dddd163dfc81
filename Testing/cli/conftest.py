"""A model that is never wrong, a library learned with it, and ways to run commands as a user does."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from made_up.files import BOXES, POINTS, small_torso, write_landmarks, write_scan, write_table, write_torso
from made_up.models import tiny_model
from made_up.trainings import save_settings, tiny_config


@pytest.fixture(scope="module", autouse=True)
def ideal_embedding():
    """Run the real pipeline on the small model, then give every cell its own RAS position as its embedding.

    An untrained network does not tell places apart, and a trained one is slow; the commands depend on neither.
    """
    from APELocalizerLib.core.base.geometry import apply_affine
    from APELocalizerLib.core.embedder import Embedder

    real = Embedder.embed

    def embed(self, *arguments, **keywords):
        embedding_map = real(self, *arguments, **keywords)
        cells = np.argwhere(np.ones(embedding_map.body.shape, dtype=bool))
        values = apply_affine(embedding_map.grid_to_ras, cells).reshape(embedding_map.values.shape)
        return dataclasses.replace(embedding_map, values=values.astype(np.float32))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "embed", embed)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, ideal_embedding) -> SimpleNamespace:
    """Files a user would have: support scan, marks, model; and a library learned from them."""
    from APELocalizerLib.cli.program import main
    from APELocalizerLib.core.model.model_files import save_model

    folder = tmp_path_factory.mktemp("made")
    scan = write_scan(folder / "support.nii.gz", small_torso())
    points = write_table(folder / "points.csv", "name,r_mm,a_mm,s_mm", [[n, *p] for n, p in POINTS.items()])
    sides = [[name, *np.stack(corners).T.ravel()] for name, corners in BOXES.items()]
    boxes = write_table(folder / "boxes.csv", "name,rmin,rmax,amin,amax,smin,smax", sides)
    spacings = {"fine": ((5.0, 5.0, 6.0),), "standard": ((5.0, 5.0, 6.0),), "fast": ((8.0, 8.0, 9.0),)}
    model = folder / "tiny.pt"
    save_model(tiny_model(presets=spacings), model)
    library = folder / "library.json"
    arguments = ["learn", scan, "--points", points, "--boxes", boxes, "--library", library, "--model", model]
    assert main([str(argument) for argument in arguments]) == 0
    return SimpleNamespace(folder=folder, scan=scan, points=points, boxes=boxes, model=model, library=library)


@pytest.fixture
def files(made, tmp_path) -> SimpleNamespace:
    """The made files, and an empty folder; the library is a copy that a test may change."""
    library = Path(shutil.copy(made.library, tmp_path / "library.json"))
    return SimpleNamespace(**{**vars(made), "folder": tmp_path, "library": library, "out": tmp_path / "out"})


@pytest.fixture
def two_scans(files) -> Path:
    """A folder with the phantom as the scans of two patients, "one" and "two", without annotations."""
    scans = files.folder / "scans"
    scans.mkdir()
    for case in ("one", "two"):
        shutil.copy(files.scan, scans / f"{case}.nii.gz")
    return scans


@pytest.fixture
def run(capsys):
    """Run a command and return exit code, standard output and standard error."""
    from APELocalizerLib.cli.program import main

    def run_command(*arguments) -> SimpleNamespace:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, output=captured.out, errors=captured.err)

    return run_command


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Two phantoms with landmarks, and a cache of them."""
    folder = tmp_path_factory.mktemp("phantoms")
    changes = {"one": {}, "two": {"scale": 0.9, "shift": (5, 0, 10)}}
    for case, changed in changes.items():
        write_torso(folder / "scans" / f"{case}.nii.gz", **changed)
    write_landmarks(folder / "landmarks.csv", changes)
    return folder


@pytest.fixture
def train(phantoms, tmp_path, capsys):
    """Run `train` on tiny settings; returns exit code, output and errors."""
    from APELocalizerLib.cli.program import main

    recipe = save_settings(tiny_config("x", [phantoms / "scans"], cache=str(phantoms / "cache")), tmp_path / "s.json")

    def run(*words, config=recipe, out=tmp_path / "out"):
        given = ["--config", config] if config else []
        try:
            code = main([str(word) for word in ("train", "--out", out, *given, *words)])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
