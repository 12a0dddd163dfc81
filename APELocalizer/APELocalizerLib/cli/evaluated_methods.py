"""The methods that the options of `ape-localizer evaluate` name; and the product twice, to compare its settings."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from APELocalizerLib.cli.options import RULES, add_search_options, engine_of
from APELocalizerLib.core.base.errors import EvaluationError
from APELocalizerLib.core.base.progress import CancelCheck
from APELocalizerLib.methods.registry import APE, BASELINES, MAKERS, Workshop, make_methods

if TYPE_CHECKING:
    from APELocalizerLib.core.localization.alignment import Reference
    from APELocalizerLib.methods.ape import ApeSettings
    from APELocalizerLib.methods.method import Method


def add_method_options(group: argparse._ArgumentGroup) -> None:
    """Add what names the methods, and how the product searches."""
    add = group.add_argument
    add("--methods", nargs="+", metavar="METHOD", help=f"any of {', '.join(MAKERS)} (default: {APE}); tables show the "
        "first, and compare the others with it")  # fmt: skip
    add("--baselines", nargs="+", default=[], choices=BASELINES, help="also measure these")
    add_search_options(group)
    add("--against-model", metavar="ID|FILE", help="also measure this model")
    add("--against-spacing", metavar="SPACING", help="also measure this spacing")
    add("--against-rule", choices=RULES, metavar="RULE", help="also measure this rule")
    add("--against-no-refine", action="store_true", help="also measure the embedding alone")
    add("--against-no-align", action="store_true", help="also measure coordinates that are not aligned")


def method_names(arguments: argparse.Namespace) -> list[str]:
    """Names of the methods to measure, each once: those of --methods, then those of --baselines in their order."""
    baselines = [name for name in BASELINES if name in arguments.baselines]
    return list(dict.fromkeys([*(arguments.methods or [APE]), *baselines]))


def has_second(arguments: argparse.Namespace) -> bool:
    """Whether a second model, spacing, rule, refinement or alignment is to be measured."""
    names = ("model", "spacing", "rule", "no_refine", "no_align")
    return any(getattr(arguments, f"against_{name}") for name in names)


def chosen_methods(arguments: argparse.Namespace, ape: "ApeSettings | None", cancelled: CancelCheck) -> list["Method"]:
    """The methods in the order of the tables; a second one of the product's follows the first."""
    workshop = Workshop(cache=arguments.cache)
    if ape is None:
        return make_methods(method_names(arguments), workshop)

    from APELocalizerLib.methods.ape import make_ape, name_of_variant

    first = make_ape(ape.model.id, ape, arguments.cache, cancelled)
    workshop.made[APE] = first
    methods = make_methods(method_names(arguments), workshop)
    if has_second(arguments):
        second = _second_settings(arguments, ape)
        name = name_of_variant(ape, second)
        if name == first.name:
            raise EvaluationError("Both methods are identical. Name another model, spacing, rule or alignment.")
        methods.insert(methods.index(first) + 1, make_ape(name, second, arguments.cache, cancelled))
    return methods


def ape_settings(arguments: argparse.Namespace) -> "ApeSettings":
    """How the options say that the product embeds and searches. Raises `ModelError`, `LibraryError`."""
    from APELocalizerLib.methods.ape import ApeSettings

    engine = engine_of(arguments)
    engine.check()
    return ApeSettings(engine, arguments.spacing, arguments.rule, not arguments.no_refine)


def _second_settings(arguments: argparse.Namespace, first: "ApeSettings") -> "ApeSettings":
    """The first settings, changed as the options --against-… say."""
    from APELocalizerLib.app.engine import BUILT_IN, Engine

    settings = first.engine.settings
    engine = Engine(arguments.against_model or settings.model, settings.device, None, settings.one_pass)
    if not (arguments.no_align or arguments.against_no_align):
        same = engine.model.id == first.model.id
        engine = engine.using(reference=settings.reference if same else BUILT_IN)
    return replace(
        first,
        engine=engine,
        spacing=arguments.against_spacing or first.spacing,
        rule=arguments.against_rule or first.rule,
        refined=first.refined and not arguments.against_no_refine,
    )


def made_by(ape: "ApeSettings | None", methods: Sequence["Method"]) -> str:
    """How the study was made, in words."""
    how = f"Methods {', '.join(method.name for method in methods)}"
    if ape is not None:
        how = (
            f"Model {ape.model.id}, spacing {ape.spacing}, rule {ape.rule}, "
            f"{'refined' if ape.refined else 'not refined'} by the image, {_aligned(ape.reference)}, "
            f"threshold of “not found” {ape.model.round_trip_threshold_mm:g} mm"
        )
    return (
        f"{how}. Made by `ape-localizer evaluate`; every retrieval is a row of `retrievals.csv` beside this file. "
        "Positions and errors are in millimeters."
    )


def _aligned(reference: "Reference | None") -> str:
    if reference is None:
        return "coordinates not aligned"
    supports = ", ".join(support.name for support in reference.library.supports)
    return f"coordinates aligned with {reference.landmarks} landmarks of {supports}"
