"""The demo: learn a dozen landmarks on one real CT, find them on another patient's, compare with the known positions.

It runs the commands that a user would run and prints tables; at last without any click, by the built-in library.
`make demo` starts it; see Resources/SampleData for the two scans and their licenses.
"""

import argparse
import csv
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from APELocalizerLib.cli.console import table
from APELocalizerLib.cli.program import main as ape_localizer
from APELocalizerLib.core.annotations.marks import read_boxes, read_points
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.spoken_names import spoken_name

BOX_SIDES = ("rmin", "rmax", "amin", "amax", "smin", "smax")
SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "SampleData"


def run_command(*arguments: object) -> float:
    """Show a command, run it and return the seconds it took; stop the demo if it fails."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ ape-localizer {shlex.join(words)}", flush=True)
    start = time.perf_counter()
    code = ape_localizer(words)
    if code:
        sys.exit(code)
    return time.perf_counter() - start


def shown(path: Path) -> Path:
    """Return the path as short as it can be written from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table with a header."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def landmark_rows(folder: Path) -> tuple[list[list[str]], list[float]]:
    """Rows of the landmark table, and the errors against the known positions in mm."""
    known = read_points(SAMPLES / "target_points.csv")
    rows, errors = [], []
    for row in read_rows(folder / "results.csv"):
        if row["kind"] != "landmark":
            continue
        found, where = row["status"] == "found", [row[column] for column in ("r_mm", "a_mm", "s_mm")]
        error = ""
        if found and row["name"] in known:
            distance = float(np.linalg.norm(np.array(where, dtype=float) - known[row["name"]]))
            errors.append(distance)
            error = f"{distance:.1f}"
        position = [f"{float(value):.1f}" for value in where] if found else ["", "", ""]
        expected = "in view" if row["name"] in known else "outside the scan"
        rows.append(
            [spoken_name(row["name"]), row["status"], *position, _number(row["round_trip_mm"]), expected, error]
        )
    return rows, errors


def summary(errors: list[float]) -> str:
    """Errors of landmarks with a known position, in mm, as a sentence."""
    if not errors:
        return "no landmark with a known position was found."
    return (
        f"{len(errors)} landmarks with a known position, median error {np.median(errors):.1f} mm, "
        f"largest {max(errors):.1f} mm."
    )


def organ_rows(folder: Path) -> list[list[str]]:
    """Rows of the organ table: found box, its overlap with the known box, its largest distance from a known side."""
    known = read_boxes(SAMPLES / "target_boxes.csv")
    rows = []
    for row in read_rows(folder / "boxes.csv"):
        cells = [spoken_name(row["name"]), row["status"]]
        if row["status"] == "found":
            sides = [float(row[column]) for column in BOX_SIDES]
            box, reference = Box(tuple(sides[0::2]), tuple(sides[1::2])), known[row["name"]]
            wrong = np.abs([*np.subtract(box.minimum, reference.minimum), *np.subtract(box.maximum, reference.maximum)])
            cells += [f"{side:.0f}" for side in sides] + [f"{box.iou(reference):.2f}", f"{wrong.mean():.0f}"]
        else:
            cells += [""] * 8
        rows.append([*cells, _number(row["round_trip_mm"])])
    return rows


def draw_beside_known(path: Path) -> None:
    """Draw what the built-in library finds, with a cross where each landmark was marked by a reader."""
    from APELocalizerLib import Engine, open_library, read_scan
    from APELocalizerLib.scene.headless import add_volume, open_headless_scene
    from APELocalizerLib.scene.results import show_localization
    from APELocalizerLib.scene.snapshot import render_views

    scan, engine = read_scan(SAMPLES / "target_ct.nii.gz"), Engine()
    embedding_map = engine.map(scan)
    localization = engine.localize(embedding_map, open_library("built-in"))
    with open_headless_scene():
        volume = add_volume(scan.voxels, scan.ijk_to_ras, scan.name)
        nodes = show_localization(volume, localization, embedding_map)
        known = read_points(SAMPLES / "target_points.csv")
        render_views(volume, nodes, path, nodes.overlay_node, known=known, title="Found on another patient's CT")


def write_reduced(source: Path, target: Path, width: int = 1400) -> None:
    """Write a smaller copy of a picture."""
    from PIL import Image

    picture = Image.open(source).convert("RGB")
    picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target, optimize=True)


def _number(text: str) -> str:
    return f"{float(text):.1f}" if text and np.isfinite(float(text)) else ""


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results")
    parser.add_argument(
        "--picture", type=Path, help="also write the picture here, reduced for the README (needs Pillow)"
    )
    parser.add_argument("--no-scene", action="store_true", help="neither scene nor picture (no rendering needed)")
    arguments = parser.parse_args()
    samples, library, one_patient = shown(SAMPLES), arguments.out / "landmarks.json", arguments.out / "one_patient"
    arguments.out.mkdir(parents=True, exist_ok=True)
    library.unlink(missing_ok=True)

    learn_seconds = run_command(
        *("learn", samples / "support_ct.nii.gz", "--points", samples / "support_points.csv"),
        *("--boxes", samples / "support_boxes.csv", "--library", library),
    )
    localize_seconds = run_command(
        *("localize", samples / "target_ct.nii.gz", "--library", library, "--out", one_patient),
    )

    rows, errors = landmark_rows(one_patient)
    header = ["landmark", "status", "R mm", "A mm", "S mm", "round trip mm", "truth", "error mm"]
    print(f"\nLandmarks clicked on one patient, found on another:\n\n{table(rows, header)}")
    header = ["organ", "status", *BOX_SIDES, "IoU", "mean side error mm", "round trip mm"]
    print(f"\nOrgan boxes:\n\n{table(organ_rows(one_patient), header)}")
    print(f"\nOne patient clicked: {summary(errors)}")
    print(f"Learning took {learn_seconds:.1f} s, finding {localize_seconds:.1f} s.")

    built_in = arguments.out / "built_in"
    run_command(
        *("localize", samples / "target_ct.nii.gz", "--library", "built-in", "--out", built_in),
        *(() if arguments.no_scene else ("--scene",)),
    )
    without_click = summary(landmark_rows(built_in)[1])
    print(f"\nThe same by the built-in library, clicked on ten other patients: {without_click}")
    print("The known positions have an uncertainty of 3 to 7 mm themselves.")
    compared = arguments.out / "found_and_known.png"
    if not arguments.no_scene:
        draw_beside_known(compared)
    if arguments.picture:
        write_reduced(compared, arguments.picture)
    if not arguments.no_scene:
        print(f"Look at {compared}, and open {built_in / 'scene.mrb'} in 3D Slicer.")


if __name__ == "__main__":
    main()
