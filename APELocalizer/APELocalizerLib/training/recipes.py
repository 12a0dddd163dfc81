"""Named recipes. Each is a function whose docstring says what it is and where it differs from its source.

"The paper" is arXiv 2409.10291, "the released code" the authors' later repository mishgon/ape. What neither states is
marked as our reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from APELocalizerLib.core.model.model import PUBLISHED_PRESETS
from APELocalizerLib.core.model.network_config import NetworkConfig
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.cache import CacheSettings
from APELocalizerLib.training.patients.intensities import WIDE_WINDOW
from APELocalizerLib.training.patients.settings import PairSettings
from APELocalizerLib.training.settings import (
    MachineSettings,
    Objective,
    ObjectiveSettings,
    OptimizationSettings,
    RecordSettings,
)

_ANY_MACHINE = MachineSettings(device="auto", precision="auto")
"""The best device there is."""


def _self_supervised(pairs: PairSettings) -> ObjectiveSettings:
    return ObjectiveSettings(Objective.SELF_SUPERVISED, pairs, scale=None, offset=None)


def ape_equiv(output: str) -> TrainingConfig:
    """APE-Equiv of the paper: pairs of augmented crops, Eq. 1 plus lambda = 1 times the equivariance term.

    As in the paper: 8 pairs of crops per step with 1000 voxels each; crops of the volume of 96 x 96 x 64 voxels, of
    random aspect up to 2, at 1 x 1 x 1.5 to 2 x 2 x 3 mm; random HU window, blur, sharpening, noise and masking;
    150 000 steps of AdamW at a constant 3e-4, weight decay 1e-6, clipping at 1; an embedding of zero mean and unit
    variance.

    Differences:
    - The paper does not publish its network but for a stride of 4: here it is that of the released weights
      (31 million parameters).
    - Zero mean and unit variance are taken over one step's crops after a sigmoid, not before, so that the finished
      network is used like all others; running averages replace them afterwards.
    - The paper crops raw scans to the dense foreground; here they are also resampled once to 1 x 1 x 1.5 mm.
    - Strengths of the augmentation are those of the same authors' vox2vec, those of the masking the released code's:
      the paper gives none. Positions are standardized per scan, as the embedding is (our reading).
    - Places are compared at continuous positions, exact in both crops, instead of at rounded voxels.
    - Finished networks look at scans in the whole window, -1350 to 1000 HU (our reading).
    """
    stored = CacheSettings(PreparationConfig((1.0, 1.0, 1.5), WIDE_WINDOW, 0.0))
    presets = {"fine": ((1.0, 1.0, 1.5),), "standard": ((2.0, 2.0, 3.0),), "fast": ((2.0, 2.0, 3.0),)}
    pairs = PairSettings(
        aspect=2.0, coarsest=(2.0, 2.0, 3.0), positives=1000, background=0, equivariance=1.0, output="normalized",
        intensity="paper", stored=stored, presets=presets,
    )  # fmt: skip
    return TrainingConfig(
        output, "ape-equiv", network=NetworkConfig.published(), objective=_self_supervised(pairs),
        optimization=OptimizationSettings(
            learning_rate=3e-4, weight_decay=1e-6, betas=(0.9, 0.999), schedule="constant", warm_up_steps=0,
            ema_decay=0.0, max_steps=150_000,
        ),
        machine=_ANY_MACHINE, records=RecordSettings(validate_every=2000, checkpoint_every=500),
    )  # fmt: skip


def ape_aug(output: str) -> TrainingConfig:
    """APE-Aug of the paper: as APE-Equiv without the equivariance term (lambda = 0).

    Differences: those of ape-equiv.
    """
    config = ape_equiv(output)
    return config.changed(preset="ape-aug", pairs=replace(config.objective.of_pairs, equivariance=0.0))


def ape_naive(output: str) -> TrainingConfig:
    """APE-naive of the paper: single crops, Eq. 1 among their voxels.

    Differences: those of ape-equiv. Whether the paper augments here it does not say; we do (our reading).
    """
    config = ape_equiv(output)
    return config.changed(preset="ape-naive", pairs=replace(config.objective.of_pairs, views=1, equivariance=0.0))


def released(output: str) -> TrainingConfig:
    """The released code: sigmoid with a learned scale per axis, mask token, background voxels, coarser crops too.

    As released: 8 pairs of 96 x 96 x 64 voxels of one scan per step, each crop's spacing drawn from 1 x 1 x 1.5 to
    4 x 4 x 6 mm; up to 1024 voxels of the body per pair and 1024 of the air per crop; preprocessing with CLAHE at
    1 x 1 x 1.5 mm; blur or sharpening, noise, brightness, contrast, gamma; 60 % of 24 x 24 x 16 blocks masked in half
    of the crops; positions standardized per scan; the equivariance term as a mean over elements, which is a third of
    the paper's; 300 000 steps of AdamW, one cycle to 3e-4 with 10 000 steps of warm-up, eps 1e-3, weight decay 1e-6,
    clipping at 1.

    Differences:
    - bfloat16 instead of float16 where it is fast, and the last layer in float32: no loss scaling is needed.
    - Crops are sampled directly at their spacing, and compared at continuous positions, exact in both crops; the
      released code zooms with aligned corners and rounds positions down to voxels.
    - Weight decay leaves biases, norms and scales out.
    - The learned scale begins at 4 standard deviations (not stated). It is stored in the finished model, in about
      millimeters; the released weights lack it.
    - The best training loss chooses no weights; the last weights are kept.
    """
    return TrainingConfig(
        output, "released", network=NetworkConfig.published(), objective=_self_supervised(PairSettings()),
        optimization=OptimizationSettings(
            learning_rate=3e-4, weight_decay=1e-6, betas=(0.9, 0.999), adam_eps=1e-3, schedule="one_cycle",
            warm_up_steps=10_000, ema_decay=0.0, max_steps=300_000,
        ),
        machine=_ANY_MACHINE, records=RecordSettings(validate_every=3000, checkpoint_every=500),
    )  # fmt: skip


def virtual(output: str) -> TrainingConfig:
    """Our own for a few dozen scans without landmarks: the released losses on virtual patients, with a small network.

    Differences to `released`:
    - Every patient is deformed: small rotations, scale up to about 20 %, smooth displacements of about 12 mm; the same
      for both crops, and positions are measured in the deformed patient.
    - Four scans with two pairs each per step, instead of one scan with eight.
    - Positions in units of 100 mm instead of each scan's own standard deviation: short and long scans agree.
    - A plain window at 2 x 2 x 3 mm instead of CLAHE at 1 x 1 x 1.5 mm; crops at 2 x 2 x 3 to 6 x 6 x 9 mm.
    - 1.6 million parameters, 10 000 steps, cosine to 2e-3 with 300 steps of warm-up, averaged weights.
    """
    stored = CacheSettings(PreparationConfig.plain(), (2.0, 2.0, 3.0))
    presets = {"fine": ((2.5, 2.5, 3.75),), "standard": ((4.0, 4.0, 6.0), (3.0, 3.0, 4.5)), "fast": ((4.0, 4.0, 6.0),)}
    pairs = PairSettings(
        patients=4, pairs=2, virtual=True, finest=(2.0, 2.0, 3.0), coarsest=(6.0, 6.0, 9.0), position_unit_mm=100.0,
        equivariance=1.0, stored=stored, presets=presets, one_pass=True,
    )  # fmt: skip
    return TrainingConfig(
        output, "virtual", objective=_self_supervised(pairs), machine=_ANY_MACHINE,
        optimization=OptimizationSettings(warm_up_steps=300, max_steps=10_000),
    )  # fmt: skip


def anchored(output: str) -> TrainingConfig:
    """Our own, for scans with landmarks: regress the coordinates of an average patient; as the embedded model was.

    Needs landmarks (and takes boxes) of some of the scans. Everything is our own; nothing is compared with a paper.
    The map's three channels are the right, anterior and superior millimeters of an average patient.
    """
    return TrainingConfig(output, objective=ObjectiveSettings(scale=None, offset=None), machine=_ANY_MACHINE)


def mixed(output: str) -> TrainingConfig:
    """Anchored training plus, on all scans with or without landmarks, the self-supervised losses on virtual patients.

    The sum of `anchored` and a tenth of the losses of `virtual`, in units of 100 mm of the average patient.
    """
    pairs = PairSettings(
        patients=1, pairs=2, virtual=True, shape=(64, 64, 48), finest=(2.5, 2.5, 3.75), coarsest=(6.0, 6.0, 9.0),
        background=0, position_unit_mm=100.0, equivariance=1.0, weight=0.1, output="fixed", intensity="anchored",
    )  # fmt: skip
    return anchored(output).changed(preset="mixed", pairs=pairs)


RECIPES: dict[str, Callable[[str], TrainingConfig]] = {
    "ape-naive": ape_naive, "ape-aug": ape_aug, "ape-equiv": ape_equiv, "released": released, "virtual": virtual,
    "anchored": anchored, "mixed": mixed,
}  # fmt: skip


def spacing_presets(config: TrainingConfig) -> dict[str, tuple[tuple[float, float, float], ...]]:
    """Spacings that a network trained so is run at, by name."""
    return dict((config.objective.pairs and config.objective.pairs.presets) or PUBLISHED_PRESETS)
