"""Every choice of the evaluation that the papers leave open, as an option with a default.

"APE" is Goncharov et al. 2024 (arXiv:2409.10291), "RPR-Loc" is Lei et al. 2021 with its published code. What APE's
paper does say is fixed: the Euclidean distance in the embedding, the box as bounding box of six retrieved points,
the coordinate-wise mean of the boxes of several supports, an enlargement about the box's center, and 99 % recall.
"""

import argparse
from dataclasses import dataclass, field, fields
from typing import Any


def _choice(default: Any, text: str, *choices: str) -> Any:
    return field(default=default, metadata={"text": text, "choices": choices})


@dataclass(frozen=True)
class Protocol:
    """How marks are made, errors are pooled, and boxes are judged; see the texts of the fields."""

    organ_points: str = _choice(
        "auto",
        "which organ centers and extreme points are compared: those of label maps (mask), those of boxes (box: center "
        "and centers of the six sides), or mask where target and supports have label maps and else box (auto)",
        *("auto", "mask", "box"),
    )
    center: str = _choice(
        "mass",
        "center of an organ in a label map: center of mass, even if outside the organ (mass); the organ's voxel "
        "nearest to it (inside); center of the box (box)",
        *("mass", "inside", "box"),
    )
    edge_voxel: str = _choice(
        "middle",
        "extreme point of an organ in its extreme slice: the middle of the slice's voxels in C order, as RPR-Loc's "
        "code does (middle); the voxel nearest to the slice's center of mass (center)",
        *("middle", "center"),
    )
    components: str = _choice(
        "all", "parts of an organ in a label map: all, or only the largest connected one", "all", "largest"
    )
    cut_organs: str = _choice(
        "skip",
        "organs that the field of view cuts (an extreme within 1.5 voxels of its border, or marked so in the table)",
        *("skip", "keep"),
    )
    box_ends: str = _choice(
        "centers",
        "box of a label map: around the voxels' centers, as the retrieved points are (centers), or their outer edges",
        *("centers", "edges"),
    )
    box_from: str = _choice(
        "rule",
        "found box of one support: bounding box of all six points (all), each side from its own point (pairs), or as "
        "the method does it (rule: all for the baselines and for the rule paper without refinement, else pairs)",
        *("rule", "all", "pairs"),
    )
    answers: str = _choice(
        "exact",
        "found positions: between the voxels (exact), or rounded to the target scan's voxels (voxel)",
        *("exact", "voxel"),
    )
    recall: str = _choice(
        "mean",
        "99 % recall of an organ: as mean over all found boxes (mean), or for each of them (each)",
        *("mean", "each"),
    )
    enlargement: str = _choice(
        "factor",
        "enlargement of found boxes for the recall: one factor for all axes (factor) or a margin in mm (margin)",
        *("factor", "margin"),
    )
    alpha_over: str = _choice(
        "organ",
        "the enlargement is chosen on the test images, per organ over all folds (organ), or per organ and fold (fold)",
        *("organ", "fold"),
    )
    raw_volume: str = _choice(
        "scan",
        "volume that the enlarged box is compared with: the whole scan, or the box around the body",
        *("scan", "body"),
    )
    volume_ratio: str = _choice(
        "mean",
        "volume ratio of an organ: mean of the images' ratios (mean), or ratio of the mean volumes (ratio)",
        *("mean", "ratio"),
    )
    pooling: str = _choice(
        "retrievals",
        "mean ± standard deviation over all retrievals (retrievals), or over the means of the structures (structures)",
        *("retrievals", "structures"),
    )
    wilcoxon_unit: str = _choice(
        "target",
        "what the Wilcoxon test pairs: the mean error of each structure in each target (target), or single retrievals, "
        "which are not independent (retrieval)",
        *("target", "retrieval"),
    )
    few_shots: int = _choice(5, "supports whose boxes are averaged (APE: 5)")
    folds: int = _choice(10, "random draws of these supports over the patients (APE: 10 folds)")
    seed: int = _choice(0, "seed of all random draws")
    max_uncertainty_mm: float = _choice(
        float("inf"), "leave out annotations whose stated one-sigma uncertainty is larger, mm"
    )
    crop_margin_mm: float = _choice(
        40.0, "for the not-found test, how far outside a cropped scan a structure certainly lies, mm"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """One option for each field of `Protocol`."""
    group = parser.add_argument_group("what the papers leave open")
    for choice in fields(Protocol):
        choices = choice.metadata["choices"] or None
        group.add_argument(
            option_of(choice.name),
            dest=choice.name,
            default=choice.default,
            choices=choices,
            type=type(choice.default),
            metavar=None if choices else "N",
            help=f"{choice.metadata['text']} (default: {choice.default})".replace("%", "%%"),
        )


def from_arguments(arguments: argparse.Namespace) -> Protocol:
    """The protocol that the parsed options describe."""
    return Protocol(**{choice.name: getattr(arguments, choice.name) for choice in fields(Protocol)})


def option_of(name: str) -> str:
    """Command-line option of a field."""
    return "--" + name.removesuffix("_mm").replace("_", "-")


def rows_of(protocol: Protocol) -> list[tuple[str, str, str]]:
    """(option, value, explanation) of every choice, for the report."""
    return [
        (option_of(choice.name), str(getattr(protocol, choice.name)), choice.metadata["text"])
        for choice in fields(Protocol)
    ]
