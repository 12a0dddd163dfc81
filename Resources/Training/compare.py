"""Compare training recipes: short trainings that differ in one setting each, and what they find on held-out patients.

    python Resources/Training/compare.py DATA [--steps 500] [--weights W.pt] [--only NAME ...] [--out runs/compare]

DATA is laid out as for `default.json`. Every training begins with random weights (or with the weights given) and the
same seed and sees the same number of crops; the table is printed, and kept as `table.md` in the output folder. A
comparison that was stopped goes on where it was. What helps in a short training need not help in a long one.
"""

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path

from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.laid_out import load_training_set
from APELocalizerLib.training.data.training_set import share_out
from APELocalizerLib.training.patients.virtual_patients import Deformation
from APELocalizerLib.training.recipes import mixed
from APELocalizerLib.training.run.loop import train

HERE = Path(__file__).resolve().parent
HELD_OUT = ("lidc_0001", "crlm_1006", "acrin_nsclc_042", "acrin_flt_001", "lidc_0005")
COLUMNS = {
    "one support, coarse": "one_6", "one support, medium": "one_4", "one support, fine": "one_3",
    "one support, mean of the passes": "one_f", "several supports": "several_f",
}  # fmt: skip


def variants(base: TrainingConfig) -> dict[str, TrainingConfig]:
    """What is compared, by name."""
    still = Deformation(rotation_degrees=0, scale=0, isotropic=0, coarse_mm=0, fine_mm=0)
    strong = replace(base.crops.deformation, coarse_mm=24.0, fine_mm=8.0, scale=0.25)
    coarse, medium, fine = (replace(kind, share=1.0) for kind in base.crops.kinds)
    small, pairs, steps = base.network, mixed("").objective.pairs, base.optimization.max_steps
    return {
        "as shipped": base,
        "as shipped, other seed": base.changed(seed=2),
        "half as wide": base.changed(network=replace(small, channels=tuple(n // 2 for n in small.channels))),
        "half as deep": base.changed(network=replace(small, depths=((1, 1), (1, 1), (2, 1), 1))),
        "no virtual patients": base.changed(deformation=still),
        "twice the deformation": base.changed(deformation=strong),
        "only coarse crops": base.changed(kinds=(coarse,)),
        "only fine crops": base.changed(kinds=(fine,)),
        "one crop per step": base.changed(crops_per_step=1, max_steps=steps * base.objective.crops_per_step),
        "nothing hidden": base.changed(hidden_chance=0.0),
        "twice as often parts hidden": base.changed(hidden_chance=2 * base.crops.hidden_chance),
        "no synthetic scans": base.changed(synthetic_share=0.0),
        "no averaging of weights": base.changed(ema_decay=0.0),
        "squared distances": base.changed(huber_mm=1e4),
        "with self-supervision": base.changed(pairs=pairs),
        "with self-supervision, no equivariance": base.changed(pairs=replace(pairs, equivariance=0.0)),
        "stride 2": base.changed(network=replace(small, stem_stride=2)),
    }


def main() -> None:
    """Train what is not yet trained, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--crops", type=int, default=4, help="crops per step")
    parser.add_argument("--weights", type=Path, help="begin with these weights of a training, not with random ones")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    options = parser.parse_args()
    settings = json.loads((HERE / "default.json").read_text(encoding="utf-8"))
    base = TrainingConfig.from_dict(settings).changed(
        data=str(options.data), held_out=HELD_OUT, crops_per_step=options.crops,
        max_steps=options.steps, seed=1, warm_up_steps=50,
        initial_weights=str(options.weights) if options.weights else None,
        learning_rate=1.2e-3 if options.weights else 2e-3, ema_decay=0.995 if options.weights else 0.98,
        more_landmarks=str(HERE / "colonography_landmarks.csv"), checkpoint_every=100, validate_every=10**9,
    )  # fmt: skip
    data = load_training_set(base.data, options.out / "observations.json")
    real = [scan for scan in data.train if scan.label_names is None]
    painted = [scan for scan in data.train if scan.label_names is not None]
    rows = []
    for name, config in variants(base).items():
        if options.only and name not in options.only:
            continue
        folder = options.out / name.replace(" ", "_")
        config = config.changed(output=str(folder), validate_every=config.optimization.max_steps)
        share_out(real, painted, config.data.synthetic_share)
        if not (folder / "validation.csv").exists():
            folder.mkdir(parents=True, exist_ok=True)
            train(config, data)
        with (folder / "validation.csv").open(encoding="utf-8", newline="") as file:
            last = list(csv.DictReader(file))[-1]
        cells = [f"{float(last[key + '_mean']):.1f} ({float(last[key + '_median']):.1f})" for key in COLUMNS.values()]
        rows.append([name, *cells])
        print(rows[-1], flush=True)
    head = ["recipe", *COLUMNS]
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    (options.out / "table.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
