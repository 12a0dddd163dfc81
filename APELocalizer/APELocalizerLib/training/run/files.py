"""Files of a run: written so that a kill at any moment leaves the last complete one."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.base.files import replacing
from APELocalizerLib.core.base.locks import locked

LOCKED = "state.pt"
"""The file that a training locks in its folder, so that no second one writes there."""


@contextmanager
def only_training(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder. Raises `TrainingError` if one runs there, or if it cannot be written."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / LOCKED, wait_s=0.0))
        except TimeoutError as error:
            raise TrainingError(
                f"Another training is running in “{folder}”. Wait for its end, stop it, or choose another --out."
            ) from error
        except OSError as error:
            raise TrainingError(_cannot_write(folder, error)) from error
        yield


@contextmanager
def writing(folder: Path, kept: int) -> Iterator[None]:
    """Raises `TrainingError` with what to do where files of a training cannot be written.

    kept: the step of the last save, from which the training can go on.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(part in str(error) for part in _TORCH_CANNOT_WRITE):
            raise
        after = f" The training was kept at step {kept}; the same command goes on from there." if kept else ""
        raise TrainingError(_cannot_write(folder, error) + after) from error


_TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "file write failed")
"""What PyTorch's errors say when a file could not be written, as on a full disk."""


def _cannot_write(folder: Path, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "the disk may be full"
    return f"Nothing can be written to “{folder}” ({reason}). Check free space and write permission."


def save_tensors(values: dict, path: Path) -> None:
    """Save a dictionary of tensors in one step."""
    with replacing(path) as beside:
        torch.save(values, beside)


def trim_rows(path: Path, last_step: int) -> None:
    """Drop the rows of a CSV file after a step, which a run that was killed did and will do again."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if row.get("step") and float(row["step"]) <= last_step]
    if len(kept) == len(rows) or not rows:
        return
    with replacing(path) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name is not None], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)


def has_row(path: Path, step: int) -> bool:
    """Whether a CSV file has a row of a step."""
    if not path.exists():
        return False
    with open(path, encoding="utf-8", newline="") as file:
        return any(row.get("step") and float(row["step"]) == step for row in csv.DictReader(file))


def append_row(path: Path, row: dict[str, float]) -> None:
    """Append to a CSV file, writing its header first; columns that the file does not have are left out."""
    new = not path.exists()
    columns = list(row)
    if not new:
        with open(path, encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file), columns)
    with open(path, "a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})


class Board:
    """TensorBoard's log of a run, if TensorBoard is installed; otherwise nothing."""

    def __init__(self, folder: Path, wanted: bool = True, done: int = 0) -> None:
        """done: steps of the run so far; what an earlier log has of later ones, which are done again, is hidden."""
        self.writer = None
        if wanted and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def add(self, group: str, row: dict[str, float], step: int) -> None:
        """Log all numbers of a row."""
        if self.writer is None:
            return
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            self.writer.close()
