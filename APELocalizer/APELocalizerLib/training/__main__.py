"""`python -m APELocalizerLib.training --config FILE`, as older notes call `ape-localizer train --config FILE`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.run.loop import train


def main() -> int:
    """Parse the arguments and train; exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m APELocalizerLib.training", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file of TrainingConfig")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(TrainingConfig.load(parser.parse_args().config))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
