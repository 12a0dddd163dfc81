"""All settings of a training run; a run is reproduced from the JSON file that is saved with its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from APELocalizerLib.core.base.files import write_text
from APELocalizerLib.core.model.network_config import NetworkConfig, NetworkSettings
from APELocalizerLib.core.model.networks import settings_from_dict, settings_to_dict
from APELocalizerLib.training.data.average_patient import FrameModel
from APELocalizerLib.training.data.settings import DataSettings
from APELocalizerLib.training.patients.settings import CropSettings, PairSettings
from APELocalizerLib.training.patients.virtual_patients import CropKind, Deformation
from APELocalizerLib.training.settings import (
    MachineSettings,
    Objective,
    ObjectiveSettings,
    OptimizationSettings,
    RecordSettings,
)

STRIDES = (1, 2, 4)
"""Voxels along a cell of the network's output; crops are made of whole cells of 4."""

_GROUPS = {
    "data": DataSettings, "crops": CropSettings, "objective": ObjectiveSettings,
    "optimization": OptimizationSettings, "machine": MachineSettings, "records": RecordSettings,
}  # fmt: skip
_SINGLE = {"output": "output", "preset": "recipe", "seed": "seed", "network": "network"}
"""Settings that belong to no group, by their names in files."""

_KEYS = {"folder": "data", "kind": "anchored"}
"""Settings that have other names in files, which are flat: one key per setting, whatever its group."""

_READERS: dict[str, Callable[[Any], Any]] = {
    "network": settings_from_dict,
    "frame": lambda values: FrameModel(**values),
    "deformation": lambda values: Deformation(**values),
    "pairs": PairSettings.from_dict,
    "kinds": lambda kinds: tuple(CropKind(**_with_tuples(kind)) if isinstance(kind, dict) else kind for kind in kinds),
}
"""How JSON values become settings that are objects."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a run by group; the defaults are anchored training, see `recipes` for the others.

    `output` is the folder of the run and its results, `recipe` the name of what its settings were derived from.
    """

    output: str
    recipe: str = "anchored"
    seed: int = 1
    network: NetworkSettings = field(default_factory=NetworkConfig.small)
    data: DataSettings = field(default_factory=DataSettings)
    crops: CropSettings = field(default_factory=CropSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    optimization: OptimizationSettings = field(default_factory=OptimizationSettings)
    machine: MachineSettings = field(default_factory=MachineSettings)
    records: RecordSettings = field(default_factory=RecordSettings)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"“seed” must be at least 0, not {self.seed}.")
        if self.network.stride not in STRIDES:
            allowed = ", ".join(map(str, STRIDES))
            raise ValueError(f"A network is trained with a stem stride of {allowed}, not {self.network.stride}.")
        if self.network.embedding_dim != 3:
            raise ValueError(f"Networks of three channels are trained, not of {self.network.embedding_dim}.")

    def changed(self, **values: Any) -> TrainingConfig:
        """The same settings but for some, by their names in files. Raises ValueError for unknown or wrong ones."""
        return _grouped({**_flat(self), **values})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, one key per setting."""
        values = {key: _plain(value) for key, value in _flat(self).items()}
        return values | {"network": settings_to_dict(self.network)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """The inverse of `to_dict`; settings that are missing are the defaults. Raises ValueError for unknown ones."""
        if "output" not in values:
            raise ValueError("The setting “output” is missing.")
        return cls(values["output"]).changed(**values)

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_text(path, json.dumps(self.to_dict(), indent=1))

    @classmethod
    def load(cls, path: Path) -> TrainingConfig:
        """Read what `save` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


def _flat(config: TrainingConfig) -> dict[str, Any]:
    """All settings by their names in files."""
    values = {key: getattr(config, name) for key, name in _SINGLE.items()}
    for name, group in _GROUPS.items():
        settings = getattr(config, name)
        values |= {_KEYS.get(item.name, item.name): getattr(settings, item.name) for item in fields(group)}
    return values | {"anchored": config.objective.kind.is_anchored}


def _grouped(values: Mapping[str, Any]) -> TrainingConfig:
    """The inverse of `_flat`, of values that may be those of JSON. Raises ValueError for unknown settings."""
    values = {key: _read(key, value) for key, value in values.items()}
    values["anchored"] = Objective.of(values["anchored"], values["pairs"])
    groups = {
        name: group(**{item.name: values.pop(_KEYS.get(item.name, item.name)) for item in fields(group)})
        for name, group in _GROUPS.items()
    }
    single = {name: values.pop(key) for key, name in _SINGLE.items()}
    if values:
        raise ValueError(f"Unknown training setting: {', '.join(sorted(values))}.")
    return TrainingConfig(**single, **groups)


def _read(key: str, value: Any) -> Any:
    if key in _READERS and isinstance(value, dict | list | tuple):
        return _READERS[key](value)
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """A setting as JSON writes it."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return tuple(_plain(item) for item in value) if isinstance(value, tuple) else value


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
