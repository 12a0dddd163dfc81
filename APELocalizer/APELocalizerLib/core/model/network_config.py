"""The shape of a network, as a value that a model file can hold; it needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

MOST_CHANNELS, MOST_BLOCKS, MOST_LEVELS, MOST_STRIDE = 4096, 1000, 8, 16
"""No network of this kind is larger."""


class NetworkSettings(Protocol):
    """What the settings of a network of any kind tell about it; see `networks.KINDS`."""

    kind: ClassVar[str]

    @property
    def embedding_dim(self) -> int:
        """Channels of the output."""
        ...

    @property
    def stride(self) -> int:
        """Voxels per cell of the output, along each axis."""
        ...

    @property
    def total_stride(self) -> int:
        """The smallest input size per axis, in voxels; tiles are at least as large."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain JSON values, without the kind."""
        ...

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkSettings:
        """The inverse of `to_dict`. Raises ValueError for an unknown field."""
        ...


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of an APENetwork.

    `depths` holds (left blocks, right blocks) for each level and, last, the number of blocks at the bottom;
    `channels` holds one width per level and, last, the bottom's. `layer_scale_init` matters for training only.
    """

    kind: ClassVar[str] = "ape"

    stem_stride: int = 4
    channels: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[Any, ...] = ((3, 1), (3, 1), (9, 1), 3)
    hidden_factor: float = 4.0
    in_channels: int = 1
    embedding_dim: int = 3
    mask_token: bool = True
    layer_scale_init: float = 1e-6

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or len(self.depths) != len(self.channels):
            raise ValueError("A network needs at least two levels, and as many depths as channels.")
        self._check_counts()
        if not 0.1 <= self.hidden_factor <= 16 or not abs(self.layer_scale_init) < 1e3:
            raise ValueError("The hidden factor or the layer scale of a network is out of range.")
        if type(self.mask_token) is not bool:
            raise ValueError("Whether a network has a mask token is true or false.")

    def _check_counts(self) -> None:
        """Raise ValueError for strides, widths and depths that no network of this kind has."""
        pairs, bottom = self.depths[:-1], self.depths[-1]
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            raise ValueError("The depths of a network are two numbers per level and one for its bottom.")
        counts = [self.stem_stride, *self.channels, self.in_channels, self.embedding_dim]
        blocks = [bottom, *(count for pair in pairs for count in pair)]
        if not all(type(count) is int for count in (*counts, *blocks)):
            raise ValueError("Strides, channels and depths of a network are whole numbers.")
        if min(counts) < 1 or max(counts) > MOST_CHANNELS or min(blocks) < 0 or sum(blocks) > MOST_BLOCKS:
            raise ValueError("A network has impossibly many or few channels or blocks.")
        if len(self.channels) > MOST_LEVELS or self.stem_stride > MOST_STRIDE:
            raise ValueError("A network has impossibly many levels or too large a stride.")

    @classmethod
    def published(cls) -> NetworkConfig:
        """The released network: 31 384 351 parameters."""
        return cls()

    @classmethod
    def small(cls) -> NetworkConfig:
        """A network of about 1.6 million parameters, for the weights that come with the extension."""
        return cls(channels=(32, 64, 128, 192), depths=((2, 1), (2, 1), (3, 1), 2), layer_scale_init=0.1)

    @property
    def stride(self) -> int:
        """Input voxels per cell of the output."""
        return self.stem_stride

    @property
    def total_stride(self) -> int:
        """Input voxels per cell of the deepest level: the smallest input size per axis."""
        return self.stem_stride * 2 ** (len(self.channels) - 1)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain JSON values."""
        values = asdict(self)
        values["channels"] = list(self.channels)
        values["depths"] = [list(depth) if isinstance(depth, (tuple, list)) else depth for depth in self.depths]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """The inverse of `to_dict`. Raises ValueError for an unknown field."""
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"Unknown network setting: {', '.join(sorted(unknown))}.")
        values = dict(values)
        if "channels" in values:
            values["channels"] = tuple(int(width) for width in values["channels"])
        if "depths" in values:
            values["depths"] = tuple(
                tuple(depth) if isinstance(depth, (tuple, list)) else int(depth) for depth in values["depths"]
            )
        return cls(**values)
