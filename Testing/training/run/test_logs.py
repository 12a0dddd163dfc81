"""What a training writes about its steps: rows of a table, and the board."""

import csv
import sys
from types import SimpleNamespace

from APELocalizerLib.training.run import files


def test_rows_after_the_last_save_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    for step in range(1, 8):
        files.append_row(path, {"step": step, "loss": step / 10})
    files.trim_rows(path, 5)
    files.append_row(path, {"step": 6, "loss": 0.66, "new": 1.0})
    rows = list(csv.DictReader(path.open()))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"] and rows[-1]["loss"] == "0.66"
    files.trim_rows(tmp_path / "absent.csv", 5)


def test_the_board_is_optional(tmp_path, monkeypatch):
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    board = files.Board(tmp_path)
    board.add("training", {"loss": 1.0}, 1)
    board.close()
    assert not list(tmp_path.iterdir())


def test_the_board_gets_every_number(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def close(self):
            written.append("closed")

    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    board = files.Board(tmp_path, done=6)  # what an earlier log has of step 7 and later ones is done again
    board.add("training", {"step": 7, "loss": 1.5}, 7)
    board.close()
    assert written == [(str(tmp_path / "tensorboard"), 7), ("training/loss", 1.5, 7), "closed"]
