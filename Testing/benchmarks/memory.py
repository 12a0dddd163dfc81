"""Goal 6: the most memory that a localization holds."""

from collections.abc import Iterator

import torch

from benchmarks import scans
from benchmarks.table import Goal, Row
from benchmarks.timing import run_in_fresh_process
from benchmarks.workbench import Workbench

GB = 1e9
LITTLE = Goal("at_most", 1.5, "GB")
ALONE = "Python with PyTorch, NumPy and SimpleITK imported, no scan"


def rows(bench: Workbench) -> Iterator[Row]:
    """Peak in processes of their own, beyond the scan's bytes."""
    slices = round(bench.length(1200))
    shape, size_mm = [512, 512, slices], [350.0, 350.0, float(slices)]
    alone = run_in_fresh_process("libraries")["peak_bytes"] / GB
    done = run_in_fresh_process("localize_in_memory", shape=shape, size_mm=size_mm)
    scan_bytes = done["scan_bytes"]
    what = f"Peak memory beyond the scan's own {scan_bytes / GB:.2f} GB, 512 × 512 × {slices} int16"
    yield _row(f"{what}: localize, scan in memory", alone, done["peak_bytes"] - scan_bytes)
    yield _command_line(bench, shape, size_mm, what, alone)
    if torch.cuda.is_available():
        done = run_in_fresh_process("localize_in_memory", shape=shape, size_mm=size_mm, device="cuda")
        yield Row(
            "6",
            f"Peak on the GPU, default model, 512 × 512 × {slices}",
            LITTLE,
            ours=done["card_peak_bytes"] / GB,
            unit="GB",
            remark="torch.cuda.max_memory_allocated",
        )
    else:
        yield Row("6", "Peak on the GPU, default model", LITTLE, remark="no GPU on this machine")


def _command_line(bench: Workbench, shape: list[int], size_mm: list[float], what: str, alone: float) -> Row:
    scan = scans.stretched(tuple(shape), tuple(size_mm))
    scan_bytes, path = scan.voxels.nbytes, scans.written(scan, bench.work / "long.nii")
    del scan
    words = ["localize", path, "--library", "built-in", "--device", "cpu", "--out", bench.work / "long"]
    done = run_in_fresh_process("command_line", words=[str(word) for word in words])
    path.unlink()
    return _row(f"{what}: `ape-localizer localize` from a NIfTI file", alone, done["peak_bytes"] - scan_bytes)


def _row(what: str, alone: float, beyond: int) -> Row:
    remark = "peak resident memory of the process, all imports included"
    return Row("6", what, LITTLE, ALONE, reference_value=alone, ours=beyond / GB, unit="GB", remark=remark)
