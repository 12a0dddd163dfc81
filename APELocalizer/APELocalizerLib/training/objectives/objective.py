"""What a trainer asks of a training objective. A step is a sum over independent items: crops, or virtual patients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from APELocalizerLib.training.objectives.heads import Head, TrainedNetwork


@dataclass(eq=False)
class Outcome:
    """Loss of one item, what to log of it (`unit_mm` and `seen` are for the head, see there)."""

    loss: Tensor
    metrics: dict[str, float]
    unit_mm: float | None = None
    seen: list[float] = field(default_factory=list)


class TrainingObjective(Protocol):
    """Draws the items of a step and measures the network on them.

    Drawing depends on (seed, step, index) alone and may run in several threads, so that a run is the same whoever
    draws, and resumes exactly without keeping the state of any random number generator.
    """

    items: int

    @property
    def head(self) -> Head | None:
        """What turns the network's output into the embedding of the losses; None where it is compared as it is."""
        ...

    def draw(self, step: int, index: int) -> Any:
        """Item `index` of a step. Its `seconds` tell the time for "data" and "augmentation"."""
        ...

    def measure(self, model: TrainedNetwork | nn.Module, head: Head | None, item: Any, always_visible: bool) -> Outcome:
        """Loss of an item. `model` may be wrapped, `head` is its head; with `always_visible` the model is never given
        None for what is visible."""
        ...

    def divisor(self, index: int) -> float:
        """What the loss of an item is divided by in the sum over a step."""
        ...

    def validate(self, model: TrainedNetwork) -> dict[str, float]:
        """Numbers to log of a model in evaluation mode; empty if there is nothing to validate on."""
        ...

    def shape_of(self, item: Any) -> tuple[int, ...]:
        """Shape (N, 1, P, L, I) of the images of an item."""
        ...

    def describe(self, item: Any) -> str:
        """A sentence about an item."""
        ...
