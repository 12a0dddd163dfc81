"""Every method by its name, as `ape-localizer evaluate --methods` takes it.

To add one, write a class with the interface of `method.py` in a file of its own, and enter here what makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from APELocalizerLib.core.base.errors import EvaluationError

if TYPE_CHECKING:
    from APELocalizerLib.methods.method import Method


@dataclass
class Workshop:
    """What methods are made with: the folder `cache` for what takes long, and the methods `made` so far by name."""

    cache: Path | None = None
    made: dict[str, Method] = field(default_factory=dict)

    def get(self, name: str) -> Method:
        """The method of this name, made once: one that builds on another shares its work."""
        if name not in self.made:
            self.made[name] = MAKERS[name](self)
        return self.made[name]


def _ape(workshop: Workshop) -> Method:
    from APELocalizerLib.app.engine import Engine
    from APELocalizerLib.methods.ape import ApeSettings, make_ape

    engine = Engine()
    return make_ape(engine.model.id, ApeSettings(engine), workshop.cache)


def _correspondence(workshop: Workshop) -> Method:
    from APELocalizerLib.methods.ape import ApeMethod
    from APELocalizerLib.methods.correspondence import CorrespondenceMethod

    ape = workshop.get(APE)
    assert isinstance(ape, ApeMethod)
    return CorrespondenceMethod(ape)


def _body_box(workshop: Workshop) -> Method:
    from APELocalizerLib.methods.body_box import BodyBox

    return BodyBox()


def _affine(workshop: Workshop) -> Method:
    from APELocalizerLib.methods.registration import Affine

    return Affine(workshop.cache)


def _bspline(workshop: Workshop) -> Method:
    from APELocalizerLib.methods.registration import Affine, BSpline

    affine = workshop.get("affine")
    assert isinstance(affine, Affine)
    return BSpline(affine, workshop.cache)


APE = "ape"
"""The product's own name among the methods."""

MAKERS: Mapping[str, Callable[[Workshop], Method]] = {
    APE: _ape,
    "body-box": _body_box,
    "affine": _affine,
    "bspline": _bspline,
    "correspondence": _correspondence,
}
"""What makes each method. Imports stand inside, so that asking for one method loads no other."""

BASELINES = tuple(name for name in MAKERS if name != APE)
"""Every method but the product, in the order of the tables."""


def check_names(names: Sequence[str]) -> None:
    """Raise `EvaluationError` for a name that is not a method's, with those that are."""
    unknown = [name for name in names if name not in MAKERS]
    if unknown:
        raise EvaluationError(f"There is no method called “{unknown[0]}”. The methods are: {', '.join(MAKERS)}.")


def make_methods(names: Sequence[str], workshop: Workshop) -> list[Method]:
    """The methods of these names, each once, in this order. Raises `EvaluationError` for an unknown name."""
    check_names(names)
    return [workshop.get(name) for name in dict.fromkeys(names)]
