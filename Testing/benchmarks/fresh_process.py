"""What is measured in a fresh Python process: `python -m benchmarks.fresh_process NAME '{"argument": …}'` prints JSON.

Nothing heavy is imported at file scope, for importing is part of what is measured.
"""

import contextlib
import io
import json
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory


def libraries() -> dict:
    """Import what localizing needs, and nothing else."""
    import numpy  # noqa: F401
    import SimpleITK  # noqa: F401
    import torch  # noqa: F401

    return {}


def localize_in_memory(shape: list[int], size_mm: list[float], device: str = "cpu") -> dict:
    """Localize the built-in library on a scan made in memory: its bytes, and PyTorch's peak on the GPU."""
    import torch

    from APELocalizerLib import Engine
    from benchmarks import scans

    scan, engine = scans.stretched(tuple(shape), tuple(size_mm)), Engine(device=device)
    localization = engine.localize(scan, engine.library("built-in"))
    card = torch.cuda.max_memory_allocated() if device != "cpu" else None
    return {"scan_bytes": scan.voxels.nbytes, "landmarks": len(localization.points), "card_peak_bytes": card}


def command_line(words: list[str]) -> dict:
    """Run `ape-localizer` with these words."""
    from APELocalizerLib.cli.program import main

    with contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    if code:
        raise SystemExit(code)
    return {}


def first_and_later(path: str, repeats: int = 3) -> dict:
    """Seconds of importing, of loading model and library, and of localizations one after another on one scan file."""
    start = time.perf_counter()
    import APELocalizerLib.core.embedder
    import APELocalizerLib.core.localization.localize  # noqa: F401
    from APELocalizerLib import Engine, read_scan

    imported = time.perf_counter()
    engine = Engine(device="cpu")
    library = engine.library("built-in")
    engine.check(library)
    loaded = time.perf_counter()
    scan = read_scan(Path(path))
    seconds = []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        engine.localize(scan, library)
        seconds.append(time.perf_counter() - begin)
    return {"import": imported - start, "load": loaded - imported, "localize": seconds}


def open_module() -> dict:
    """Import the module as Slicer does when it starts: seconds, and which heavy packages it brought along."""
    import slicer_stand_ins.installed  # noqa: F401

    heavy = ("torch", "SimpleITK", "scipy", "skimage")
    before = {name for name in heavy if name in sys.modules}
    start = time.perf_counter()
    import APELocalizer  # noqa: F401

    seconds = time.perf_counter() - start
    return {"seconds": seconds, "imported": [name for name in heavy if name in sys.modules and name not in before]}


def first_after_getting_ready(path: str, repeats: int = 3) -> dict:
    """Seconds of getting ready as the panel does while the user chooses, then of the module's logic on one scan after
    another, all new to it."""
    import slicer_stand_ins.installed  # noqa: F401

    from APELocalizer import APELocalizerLogic
    from APELocalizerLib.core.scan.read import read_scan
    from APELocalizerLib.scene.headless import add_volume, open_headless_scene

    with open_headless_scene():
        logic = APELocalizerLogic()
        library = logic.loadLibrary("built-in")
        begin = time.perf_counter()
        logic.engine.using(device="cpu").warm_up(library)
        ready = time.perf_counter() - begin
        scan = read_scan(Path(path))
        volume, seconds = add_volume(scan.voxels, scan.ijk_to_ras, scan.name), []
        for _ in range(1 + repeats):
            volume.GetImageData().Modified()  # to the module another scan
            begin = time.perf_counter()
            logic.localize(volume, library, device="cpu", overlay=False)
            seconds.append(time.perf_counter() - begin)
    return {"ready": ready, "localize": seconds}


def second_library(path: str, repeats: int = 5) -> dict:
    """Seconds of the module's logic on one scan: the first run, then runs with another library, without and with the
    color overlay, and without it once the panel got the library ready; and the profiles of the former two.

    Each library is read anew, from a copy of the built-in one's file, so that nothing of an earlier run is in it."""
    import slicer_stand_ins.installed  # noqa: F401

    from APELocalizer import APELocalizerLogic
    from APELocalizerLib.core.library.built_in import built_in_library_path
    from APELocalizerLib.core.scan.read import read_scan
    from APELocalizerLib.scene.headless import add_volume, open_headless_scene
    from benchmarks.timing import functions_profile

    scan = read_scan(Path(path))
    kinds = ("other library", "other library, overlay", "other library, ready")
    seconds: dict[str, list[float]] = {name: [] for name in ("first", *kinds)}
    with open_headless_scene(), TemporaryDirectory() as folder:
        copied = shutil.copy(built_in_library_path(), folder)
        volume, logic = add_volume(scan.voxels, scan.ijk_to_ras, scan.name), APELocalizerLogic()
        for number in range(1 + len(kinds) * repeats):
            name = kinds[number % len(kinds)] if number else "first"
            whole = logic.loadLibrary(copied)
            other = whole.without(whole.names[number % len(whole.names)])
            if name.endswith("ready"):
                logic.engine.using(device="cpu").warm_up(other)
            begin = time.perf_counter()
            logic.localize(volume, other, device="cpu", overlay=name.endswith("overlay"))
            seconds[name].append(time.perf_counter() - begin)
        profiles = [
            functions_profile(
                lambda overlay=overlay, library=library: logic.localize(
                    volume, library, "standard", "cpu", overlay=overlay
                )
            )
            for overlay, library in ((each, logic.loadLibrary(copied)) for each in (False, True))
        ]
    return {**seconds, "profiles": profiles}


def main() -> None:
    """Run the function that the command line names."""
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    result = globals()[name](**arguments)
    from benchmarks.timing import peak_rss

    print(json.dumps({"peak_bytes": peak_rss(), **result}))


if __name__ == "__main__":
    main()
