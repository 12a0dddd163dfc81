"""The trainer on a tiny made-up scan: geometry of crops, falling loss, exact resume, exported weights."""

import copy
import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import DeviceError, TrainingError
from APELocalizerLib.core.model.network import APENetwork, NetworkConfig
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.average_patient import AveragePatient
from APELocalizerLib.training.data.label_maps import OrganLabels, label_landmarks
from APELocalizerLib.training.data.scans import HU_LOW, HU_RANGE, add_targets, scan_from_ct, scan_from_labels
from APELocalizerLib.training.data.synthetic import INSIDE, RIM
from APELocalizerLib.training.data.training_set import TrainingSet
from APELocalizerLib.training.objectives.anchored import AnchoredObjective
from APELocalizerLib.training.objectives.heads import NormalizedHead
from APELocalizerLib.training.objectives.retrieval import embed, nearest, sample
from APELocalizerLib.training.patients.augmentation import augment, random_visibility
from APELocalizerLib.training.patients.virtual_patients import CropKind, Deformation, draw_crop
from APELocalizerLib.training.run import loop
from APELocalizerLib.training.run.loop import train
from APELocalizerLib.training.run.trainer import Trainer
from APELocalizerLib.training.run.workers import ItemReport
from made_up.trainings import TINY

GRID = np.array([[0, -4.0, 0, 100], [-4.0, 0, 0, 90], [0, 0, -4.0, 80], [0, 0, 0, 1]])  # (P, L, I) -> RAS
KIND = CropKind((4.0, 4.0, 4.0), 1.0, 90_000, (44, 44, 44))


class Shifted:
    """A frame that is a translation, trusted everywhere."""

    def __call__(self, points):
        return np.asarray(points) + (10.0, -20.0, 30.0)

    def variance(self, points):
        return np.zeros((len(points), 3))


def made_up_scan(values=None):
    """A body with a bright ramp from feet to head in front of air; 48 x 50 x 46 voxels of 4 mm."""
    p, q, i = np.meshgrid(np.arange(48), np.arange(50), np.arange(46), indexing="ij")
    inside = ((p - 24) / 20) ** 2 + ((q - 25) / 21) ** 2 < 1
    voxels = (
        np.where(inside, 250.0 - 10 * i + 3 * q + 60 * ((p > 24) & (q > 25)), -1000.0) if values is None else values
    )
    scan = scan_from_ct("made up", "nobody", voxels, GRID)
    add_targets(scan, Shifted())
    scan.landmarks = torch.zeros(0, 3, dtype=torch.float64)
    scan.goals = torch.zeros(0, 3, dtype=torch.float64)
    return scan


def made_up_config(folder, **changes):
    values = dict(
        output=str(folder), data="", network=TINY, kinds=(KIND,), crops_per_step=2, max_steps=30, warm_up_steps=5,
        learning_rate=5e-3, checkpoint_every=3, scale=(300.0, 300.0, 300.0), offset=(-140.0, -170.0, -120.0),
    )  # fmt: skip
    return TrainingConfig.from_dict({**values, **changes})


def made_up_set():
    return TrainingSet([made_up_scan()], [], [], AveragePatient({}), {})


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("deformation", [Deformation(0, 0, 0, 0, 100, 0, 45), Deformation()], ids=["still", "deformed"])
def test_targets_move_with_the_anatomy(deformation, stride):
    """In a scan whose brightness is its S coordinate, the target must be S (plus the frame's shift) everywhere."""
    index = np.arange(46)[None, None, :] * np.ones((48, 50, 1))
    height = GRID[2, 3] - 4.0 * index
    scan = made_up_scan(HU_LOW + HU_RANGE * (height + 150) / 300)
    scan.body[:] = 1.0
    for seed in range(4):
        random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        crop = draw_crop(scan, KIND, deformation, random, generator, stride)
        brightness = torch.nn.functional.avg_pool3d(crop.image, stride)[0, 0] * 300 - 150
        counted = crop.weight[2] > 0.5
        inner = counted & (crop.target[2] < 30 + height.max() - 20) & (crop.target[2] > 30 + height.min() + 20)
        assert inner.sum() > 50
        assert (brightness + 30 - crop.target[2])[inner].abs().max() < 4.0


def test_augmentation_stays_in_range_and_repeats():
    image = torch.rand(1, 1, 24, 24, 24) * 1.5
    runs = [augment(image, None, np.random.default_rng(5), torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*runs)
    assert runs[0].min() >= 0 and runs[0].max() <= 1
    assert not torch.equal(runs[0], image.clamp(0, 1))


def test_hidden_blocks_leave_most_of_the_image():
    shape = (40, 37, 50)
    assert random_visibility(shape, 0.0, np.random.default_rng(0), torch.Generator()) is None
    shares = []
    for seed in range(20):
        visible = random_visibility(shape, 1.0, np.random.default_rng(seed), torch.Generator().manual_seed(seed))
        assert visible.shape == (1, *shape) and set(visible.unique().tolist()) <= {0.0, 1.0}
        shares.append(float(visible.mean()))
    assert 0.5 < np.mean(shares) < 0.9


def test_the_loss_falls(tmp_path):
    rows = []
    train(made_up_config(tmp_path, max_steps=45, threads=1), made_up_set(), rows.append)
    first, last = (np.mean([row["distance_mm"] for row in part]) for part in (rows[:5], rows[-5:]))
    assert last < 0.6 * first


def test_a_network_of_half_the_stride_learns_and_finds_its_own_places(tmp_path):
    """The map of a trained network must put the scan's places where they are, at whatever stride."""
    rows = []
    network = replace(TINY, stem_stride=2)
    trainer = train(made_up_config(tmp_path, network=network, max_steps=45, threads=1), made_up_set(), rows.append)
    first, last = (np.mean([row["distance_mm"] for row in part]) for part in (rows[:5], rows[-5:]))
    assert last < 0.6 * first
    scan = made_up_scan()
    found = embed(
        trainer.average,
        scan,
        (4.0, 4.0, 4.0),
        *map(torch.tensor, (trainer.config.objective.scale, trainer.config.objective.offset)),
    )
    values = sample(found, np.array([[0.0, 0.0, -60.0], [0.0, 0.0, 60.0]]))
    assert values.shape == (2, 3) and values[1, 2] - values[0, 2] > 40


def test_a_stride_that_crops_are_not_made_of_is_refused(tmp_path):
    with pytest.raises(ValueError, match="stem stride of 1, 2, 4, not 8"):
        made_up_config(tmp_path, network=replace(TINY, stem_stride=8))


def test_a_killed_run_resumes_to_the_same_losses(tmp_path):
    whole, parts = [], []
    train(made_up_config(tmp_path / "whole", max_steps=8), made_up_set(), whole.append)

    def die(metrics):
        parts.append(metrics)
        if metrics["step"] == 5:
            raise KeyboardInterrupt

    config = made_up_config(tmp_path / "killed", max_steps=8)
    with pytest.raises(KeyboardInterrupt):
        train(config, made_up_set(), die)
    (tmp_path / "killed" / "state.pt.part").write_bytes(b"half a state")  # as a kill while saving leaves it
    train(config, made_up_set(), parts.append)
    resumed = {row["step"]: row["loss"] for row in parts}  # the steps after the last save come twice
    assert resumed == {row["step"]: row["loss"] for row in whole}


def test_a_damaged_save_is_named_and_left_alone(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"half a save")
    with pytest.raises(TrainingError, match="state.pt.*damaged"):
        train(made_up_config(tmp_path, max_steps=8), made_up_set())
    assert (tmp_path / "state.pt").read_bytes() == b"half a save"


def validated(folder):
    with (folder / "validation.csv").open(encoding="utf-8", newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@pytest.fixture
def validating(monkeypatch):
    monkeypatch.setattr(Trainer, "validate", lambda trainer: {"distance_mm": 1.0})


def test_a_finished_training_is_validated_once(tmp_path, validating):
    config = made_up_config(tmp_path, max_steps=2, validate_every=10)
    for _ in range(3):
        train(config, made_up_set())
    assert validated(tmp_path) == [2]
    (tmp_path / "validation.csv").unlink()  # as after a kill between the last save and the validation
    train(config, made_up_set())
    assert validated(tmp_path) == [2]


def test_a_stop_is_heeded_before_the_next_step_and_without_validation(tmp_path, validating):
    rows = []
    config = made_up_config(tmp_path, max_steps=5, validate_every=1)
    trainer = train(config, made_up_set(), rows.append, cancelled=lambda: len(rows) == 2)
    assert trainer.step == len(rows) == 2 and trainer.stop_asked
    assert validated(tmp_path) == [1, 2]
    config = made_up_config(tmp_path / "other", max_steps=5, validate_every=10)
    train(config, made_up_set(), cancelled=lambda: True)
    assert torch.load(tmp_path / "other" / "state.pt", weights_only=True)["step"] == 0
    assert not (tmp_path / "other" / "validation.csv").exists()


class Diverging:
    """Workers whose gradients are not numbers, nor what they saw."""

    count = 1

    def __init__(self, model):
        self.model = model

    def run(self, step):
        for parameter in self.model.parameters():
            parameter.grad = torch.full_like(parameter, float("nan"))
        return [ItemReport({"loss": float("nan")}, 1.0, float("nan"), [float("nan")] * 6, (), DREW)]


DREW = {"data": 0.0, "augmentation": 0.0, "network": 0.0}


def test_steps_without_finite_gradients_leave_no_trace_and_end_the_training(tmp_path):
    objective = AnchoredObjective(made_up_config(tmp_path), made_up_set(), torch.device("cpu"))
    objective.head = NormalizedHead()
    trainer = Trainer(made_up_config(tmp_path), objective)
    good = trainer.workers
    before = copy.deepcopy(trainer.average_model.state_dict()), copy.deepcopy(trainer.model.state_dict())
    trainer.workers = Diverging(trainer.model)
    for _ in range(49):
        trainer.train_step()
    for old, new in zip(before, (trainer.average_model, trainer.model), strict=True):
        torch.testing.assert_close(new.state_dict(), old, rtol=0, atol=0)
    trainer.workers = good
    assert np.isfinite(trainer.train_step()["gradient_norm"])  # the count begins anew
    trainer.workers = Diverging(trainer.model)
    for _ in range(49):
        trainer.train_step()
    with pytest.raises(TrainingError, match="learning-rate"):
        trainer.train_step()
    good.close()


OUT_OF_MEMORY = {
    "Linux": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    "Windows": RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, max allowed: 9.07 GB)."),
    "CUDA": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "NumPy": MemoryError(),
}


@pytest.mark.parametrize("where", ["set_up", "Trainer", "_Run"])
@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_too_little_memory_is_told_in_a_sentence_wherever_it_shows(tmp_path, monkeypatch, where, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(loop, where, fail) if where != "_Run" else monkeypatch.setattr(Trainer, "train_step", fail)
    with pytest.raises(DeviceError, match="Not enough memory"):
        train(made_up_config(tmp_path), made_up_set())


def test_other_errors_are_not_taken_for_too_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "train_step", lambda trainer: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError):
        train(made_up_config(tmp_path), made_up_set())


@pytest.mark.parametrize("content", [b"no model", [1, 2], {"state": 5}, {"step": 3}], ids=str)
def test_weights_to_start_from_must_be_those_of_a_network(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(TrainingError, match=r"“weights.pt”"):
        train(made_up_config(tmp_path, initial_weights=str(path)), made_up_set())


def test_a_begun_training_does_not_need_the_weights_that_it_started_from(tmp_path):
    train(made_up_config(tmp_path / "first", max_steps=1), made_up_set())
    weights = tmp_path / "first" / "export.pt"
    train(made_up_config(tmp_path / "run", max_steps=1, initial_weights=str(weights)), made_up_set())
    weights.unlink()
    assert train(made_up_config(tmp_path / "run", max_steps=2, initial_weights=str(weights)), made_up_set()).step == 2
    with pytest.raises(TrainingError, match="do not exist"):
        train(made_up_config(tmp_path / "new", max_steps=1, initial_weights=str(weights)), made_up_set())


def test_exported_weights_give_the_same_map_and_find_a_place_again(tmp_path):
    trainer = train(made_up_config(tmp_path, max_steps=45, threads=1), made_up_set())
    exported = torch.load(tmp_path / "export.pt", weights_only=True)
    network = APENetwork(NetworkConfig.from_dict(exported["network"])).eval()
    network.load_state_dict(exported["state"])
    image = torch.rand(1, 1, 40, 40, 40)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), trainer.average(image), rtol=0, atol=1e-5)
    scan = made_up_scan()
    found = embed(network, scan, (4.0, 4.0, 4.0), torch.tensor(exported["scale"]), torch.tensor(exported["offset"]))
    points = np.array([[0.0, 0.0, 0.0], [20.0, -10.0, 30.0]])
    assert np.linalg.norm(nearest(found, sample(found, points)) - points, axis=1).max() < 12.0


def test_a_painted_label_map_has_skin_around_its_organs():
    labels = np.zeros((60, 60, 40), np.uint8)
    labels[20:40, 20:40, 5:35] = 5
    scan = scan_from_labels("x", "x", labels, GRID, {5: "liver"})
    filled = scan.levels[0][0, 0].numpy()
    assert filled.shape[2] == 30, "slices without labels are left out"
    assert filled[30, 30, 10] == 5 and filled[18, 30, 10] == RIM and filled[2, 2, 10] == 0
    assert scan.grid_to_ras[2, 3] == GRID[2, 3] - 4.0 * 5
    assert not np.any(filled[scan.body[0, 0].numpy() == 0])
    assert INSIDE != RIM


def test_landmarks_of_a_label_map_respect_the_field_of_view():
    labels = np.zeros((40, 40, 40), np.int16)
    labels[10:20, 5:15, 8:25] = 2
    labels[10:20, 25:35, 20:40] = 3  # runs out of the scan below
    labels[30:35, 18:22] = 79
    names = {2: "kidney_right", 3: "kidney_left", 79: "spinal_cord"}
    found = {o.key: o.point for o in label_landmarks(OrganLabels(labels, GRID, names))}
    assert found["kidney_right_upper_pole"][2] == pytest.approx(80 - 4 * 8)
    assert found["kidney_right_lower_pole"][2] == pytest.approx(80 - 4 * 24)
    assert "kidney_left_upper_pole" in found and "kidney_left_lower_pole" not in found


def test_config_survives_json(tmp_path):
    config = made_up_config(tmp_path, held_out=("a", "b"))
    config.save(tmp_path / "config.json")
    assert TrainingConfig.load(tmp_path / "config.json") == config
    with pytest.raises(ValueError, match="sunshine"):
        TrainingConfig.from_dict({**config.to_dict(), "sunshine": 1})
