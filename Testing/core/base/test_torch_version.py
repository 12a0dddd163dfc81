"""A file of weights from elsewhere is opened only by versions of PyTorch that run no code in it."""

import pytest
import torch

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.model.model_files import read_model
from APELocalizerLib.training.objectives.teacher import load_teacher
from APELocalizerLib.training.run.export import ship
from APELocalizerLib.training.run.trainer import initial_state
from made_up.models import tiny_model


@pytest.mark.parametrize(
    "open_file",
    [
        read_model,
        load_teacher,
        lambda path: ship(path, path.parent / "shipped"),
        lambda path: initial_state(path, tiny_model().build_network()),
    ],
    ids=["model", "teacher", "ship", "initial weights"],
)
def test_an_older_pytorch_opens_no_weights_from_elsewhere(open_file, tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    torch.save({"state": {}}, path)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ModelError, match=r"weights.pt was not opened: PyTorch 2.5.1.*Update PyTorch to 2.6"):
        open_file(path)
