"""Files of a run: written so that a kill at any moment leaves the last complete one."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import torch


def save_atomically(values: dict, path: Path) -> None:
    """torch.save to a temporary file beside `path`, then rename."""
    temporary = path.with_name(path.name + ".part")
    torch.save(values, temporary)
    os.replace(temporary, path)


def append_row(path: Path, row: dict[str, float]) -> None:
    """Append to a CSV file, writing its header first."""
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})
