"""A network of another kind than the APE one is trained, saved, read and run like it, once it is entered in `KINDS`."""

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import ModelError, TrainingError
from APELocalizerLib.core.embedder import embed_scan
from APELocalizerLib.core.embedding.runner import InferenceSettings, Runner
from APELocalizerLib.core.model.networks import KINDS, NetworkKind
from APELocalizerLib.core.model.registry import load_model
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.objectives.teacher import load_teacher
from APELocalizerLib.training.run.costs import parameter_count
from APELocalizerLib.training.run.plan import dry_run
from made_up.networks import AverageConfig, AverageNetwork
from made_up.scans import prepared_scan, random_image
from made_up.trainings import run

CPU = InferenceSettings(device="cpu")


@pytest.fixture
def trained(config, monkeypatch):
    """A trainer that has done one step on a network of another kind, and its folder."""
    monkeypatch.setitem(KINDS, AverageConfig.kind, NetworkKind(AverageConfig, AverageNetwork))
    config = config.changed(network=AverageConfig(), max_steps=1)
    trainer, losses = run(config)
    assert len(losses) == 1 and np.isfinite(losses).all()
    return trainer, trainer.folder


def test_a_step_of_training_changes_its_weights_and_the_folder_names_its_kind(trained):
    trainer, folder = trained
    begun = AverageNetwork(AverageConfig()).state_dict()
    assert not any(torch.equal(value, begun[key]) for key, value in trainer.network.state_dict().items())
    assert TrainingConfig.load(folder / "config.json").network == AverageConfig()
    network, _, _ = load_teacher(folder / "export.pt")
    torch.testing.assert_close(network.state_dict(), trainer.average.state_dict(), rtol=0, atol=0)


def test_its_model_embeds_a_scan_as_its_formula_says(trained, place):
    trainer, folder = trained
    model = load_model(str(folder / "model.pt"))
    image = random_image((24, 20, 16))
    values = Runner(model, CPU).embed(prepared_scan(image)).values
    means = image.reshape(6, 4, 5, 4, 4, 4).mean(axis=(1, 3, 5))[..., None]
    weight, bias = (getattr(trainer.average, name).detach().numpy() for name in ("weight", "bias"))
    output = 1 / (1 + np.exp(-(means * weight + bias)))
    np.testing.assert_allclose(values, output * model.scale + np.array(model.offset), rtol=2e-3, atol=2e-3)  # float16
    embedding_map = embed_scan(read_scan(place / "scans" / "one.nii.gz"), model, "fast", CPU)
    assert embedding_map.values[embedding_map.body].std() > 0 and embedding_map.model_id == model.id


def test_a_dry_run_counts_its_parameters(config, monkeypatch):
    monkeypatch.setitem(KINDS, AverageConfig.kind, NetworkKind(AverageConfig, AverageNetwork))
    assert parameter_count(AverageConfig()) == 6
    assert "0.00 million parameters" in dry_run(config.changed(network=AverageConfig()))


def test_where_its_kind_is_unknown_it_is_refused_in_a_sentence(trained, monkeypatch):
    _, folder = trained
    monkeypatch.delitem(KINDS, AverageConfig.kind)
    sentence = r"of a kind \(average\) that this version of APELocalizer does not know; update the extension"
    with pytest.raises(ModelError, match=f"^model.pt: .*{sentence}"):
        load_model(str(folder / "model.pt"))
    with pytest.raises(TrainingError, match=f"“export.pt”.*{sentence}"):
        load_teacher(folder / "export.pt")
    with pytest.raises(ModelError, match=sentence):
        TrainingConfig.load(folder / "config.json")


def test_networks_of_other_than_three_channels_are_not_trained(config):
    with pytest.raises(ValueError, match="three channels"):
        config.changed(network=AverageConfig(embedding_dim=5))
