"""Model files: complete, safe to open, and refused in words when they are something else."""

import json
import os

import pytest
import torch

from APELocalizerLib.core.base.errors import ModelError
from APELocalizerLib.core.model.model_files import published_model, read_model, save_model
from APELocalizerLib.core.model.network_config import NetworkConfig
from APELocalizerLib.core.preparation.config import PreparationConfig
from made_up.models import TINY_NETWORK, rich_model, tiny_model
from made_up.paths import DATA

PUBLISHED_KEYS = json.loads((DATA / "ape_state_dict.json").read_text(encoding="utf-8"))["keys"]


@pytest.fixture(scope="module")
def published_state():
    """Random weights under the published names and shapes, all in one storage so that the file stays small."""
    numbers = torch.rand(768 * 3072, generator=torch.Generator().manual_seed(0)) * 0.02
    return {key: numbers[: torch.Size(shape).numel()].view(shape) for key, shape in PUBLISHED_KEYS}


def test_a_saved_model_comes_back_whole(tmp_path):
    save_model(rich_model(), tmp_path / "new folder" / "model.pt")
    back = read_model(tmp_path / "new folder" / "model.pt")
    for name in ("name", "network", "preparation", "presets", "scale", "offset", "anchored", "one_pass", "padding"):
        assert getattr(back, name) == getattr(rich_model(), name), name
    for name in ("round_trip_threshold_mm", "license", "citation", "training_data"):
        assert getattr(back, name) == getattr(rich_model(), name), name
    assert back.id == rich_model().id, "landmarks learned before saving are still comparable"
    for key, value in rich_model().state.items():
        assert torch.equal(back.state[key], value.half()), key


def test_full_precision_is_kept_when_asked_for(tmp_path):
    save_model(rich_model(), tmp_path / "model.pt", half=False)
    back = read_model(tmp_path / "model.pt")
    assert all(torch.equal(back.state[key], value) for key, value in rich_model().state.items())
    assert back.id == rich_model().id


def test_the_network_gives_the_same_map_after_saving(tmp_path):
    model = tiny_model()
    save_model(model, tmp_path / "model.pt")
    network, back = model.build_network(), read_model(tmp_path / "model.pt").build_network()
    image = torch.rand(1, 1, 32, 36, 40)
    with torch.inference_mode():
        torch.testing.assert_close(back(image), network(image), rtol=0, atol=2e-3)
    assert not network.training and next(network.parameters()).dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in back.parameters())


def test_saving_leaves_no_other_file_and_an_ordinary_one(tmp_path):
    save_model(rich_model(), tmp_path / "model.pt")
    (tmp_path / "ordinary").write_text("")
    assert sorted(os.listdir(tmp_path)) == ["model.pt", "ordinary"]
    assert (tmp_path / "model.pt").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


# Identity ----------------------------------------------------------------------------------------------------------


def test_the_id_names_the_model_and_its_meaning():
    name, _, digest = rich_model().id.partition("@")
    assert name == "rich" and len(digest) == 12 and int(digest, 16) >= 0
    assert tiny_model().id == tiny_model().id


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"scale": (500.0, 500.0, 501.0)},
        {"offset": (0.0, 0.0, 1.0)},
        {"one_pass": True},
        {"padding": "edge"},
        {"preparation": PreparationConfig.published()},
        {"presets": {"standard": ((2.0, 2.0, 2.0),)}},
    ],
)
def test_whatever_changes_an_embedding_changes_the_id(changes):
    assert tiny_model(**changes).id != tiny_model().id


def test_texts_and_the_threshold_do_not_change_the_id():
    other = tiny_model(round_trip_threshold_mm=1.0, license="other", citation="other", training_data="other")
    assert other.id == tiny_model().id


def test_an_unknown_spacing_is_refused_with_those_that_are_known():
    with pytest.raises(ModelError, match='no spacing "finest". Choose one of: standard, fast, both'):
        tiny_model().spacings("finest")
    assert tiny_model().spacings("both") == ((4.0, 4.0, 6.0), (2.0, 2.0, 3.0))


# The published network ---------------------------------------------------------------------------------------------


def test_a_published_state_dict_is_recognized(published_state, tmp_path):
    torch.save(published_state, tmp_path / "ape.pt")
    model = read_model(tmp_path / "ape.pt")
    assert model.id.startswith("ape-published@")
    assert model.network == NetworkConfig.published()
    assert model.preparation == PreparationConfig.published()
    assert list(model.presets) == ["fine", "standard", "fast"]
    assert not model.anchored and not model.one_pass and model.padding == "mask"
    assert "non-commercial" in model.license
    network = model.build_network()
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_384_351
    key = "fpn.left_stages.2.blocks.8.conv_3.weight"
    assert torch.equal(network.state_dict()[key], published_state[key])


def test_almost_published_weights_are_refused_naming_the_keys(published_state):
    short = {key: value for key, value in published_state.items() if key != "head.convs.2.weight"}
    with pytest.raises(ModelError, match="another network .*missing: head.convs.2.weight"):
        published_model(short)
    with pytest.raises(ModelError, match="unknown: scale"):
        published_model({**published_state, "scale": torch.ones(3, 1, 1, 1)})
    with pytest.raises(ModelError, match=r"missing: fpn.stem.mask_token.*unknown: ape.fpn.stem.mask_token"):
        published_model({f"ape.{key}": value for key, value in published_state.items()})
    with pytest.raises(ModelError, match=r"wrong size: head.convs.0.bias \(4,\) instead of \(3,\)"):
        published_model({**published_state, "head.convs.0.bias": torch.ones(4)})
    with pytest.raises(ModelError, match="something other than network weights"):
        published_model({**published_state, "epoch": 3})
    with pytest.raises(ModelError, match=r"not numbers \(head.convs.0.bias\)"):
        published_model({**published_state, "head.convs.0.bias": torch.tensor([1.0, float("nan"), 0.0])})


def test_only_the_first_three_keys_are_named():
    with pytest.raises(ModelError) as error:
        published_model({"weight": torch.ones(1)}, "other.pt")
    assert str(error.value).startswith("other.pt holds weights of another network (missing: fpn.stem.mask_token, ")
    assert str(error.value).count("fpn.") == 3 and "…" in str(error.value)


# Files that are something else -------------------------------------------------------------------------------------


def test_models_are_compared_by_identity():
    one, same = tiny_model(), tiny_model()
    assert one == one and one != same and len({one, same}) == 2
    assert one.network == TINY_NETWORK
