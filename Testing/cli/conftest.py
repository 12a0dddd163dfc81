"""A small untrained model, a library learned with it, and a way to run commands as a user does."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cli.phantom import BOXES, POINTS, phantom_voxels, write_phantom, write_table


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> SimpleNamespace:
    """Files a user would have: support scan, marks, model; and a library learned from them."""
    import torch

    from APELocalizerLib.cli.program import main
    from APELocalizerLib.core.checkpoints import Checkpoint, save_checkpoint
    from APELocalizerLib.core.network import APENetwork, NetworkConfig
    from APELocalizerLib.core.preparation import PreparationConfig

    folder = tmp_path_factory.mktemp("made")
    scan = write_phantom(folder / "support.nii.gz", phantom_voxels())
    points = write_table(folder / "points.csv", "name,r_mm,a_mm,s_mm", [[n, *p] for n, p in POINTS.items()])
    sides = [[name, *np.stack(corners).T.ravel()] for name, corners in BOXES.items()]
    boxes = write_table(folder / "boxes.csv", "name,rmin,rmax,amin,amax,smin,smax", sides)
    torch.manual_seed(3)
    config = NetworkConfig(channels=(16, 24), depths=((1, 1), 1), layer_scale_init=0.5)
    state = {key: value * 2 for key, value in APENetwork(config).state_dict().items()}
    spacings = {"fine": ((5.0, 5.0, 6.0),), "standard": ((5.0, 5.0, 6.0),), "fast": ((8.0, 8.0, 9.0),)}
    model = folder / "tiny.pt"
    checkpoint = Checkpoint("tiny", config, PreparationConfig.plain(), state, presets=spacings)
    save_checkpoint(checkpoint, model)
    library = folder / "library.json"
    arguments = ["learn", scan, "--points", points, "--boxes", boxes, "--library", library, "--model", model]
    assert main([str(each) for each in arguments]) == 0
    return SimpleNamespace(folder=folder, scan=scan, points=points, boxes=boxes, model=model, library=library)


@pytest.fixture
def files(made, tmp_path) -> SimpleNamespace:
    """The made files, and an empty folder; the library is a copy that a test may change."""
    library = Path(shutil.copy(made.library, tmp_path / "library.json"))
    return SimpleNamespace(**{**vars(made), "folder": tmp_path, "library": library, "out": tmp_path / "out"})


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
