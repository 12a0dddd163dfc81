"""The repository as Slicer's extensions index sees it: metadata, installed files, directions of import, licenses."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "APELocalizer"
LIBRARY = MODULE / "APELocalizerLib"

CORE = ("base", "scan", "annotations", "preparation", "model", "embedding", "library", "localization", "embedder")
"""The floors of core, from the ground up: each may import from those before it and from itself."""

TRAINING = ("data", "patients", "settings", "objectives", "run")
"""The floors of training, likewise; `settings` are the files that lie in training itself."""

MAY_IMPORT = {
    **{f"core/{room}": {f"core/{below}" for below in CORE[: number + 1]} for number, room in enumerate(CORE)},
    **{
        f"training/{room}": {"core", *(f"training/{below}" for below in TRAINING[: number + 1])}
        for number, room in enumerate(TRAINING)
    },
    "app": {"app", "core"},
    "methods": {"methods", "app", "core"},
    "evaluation": {"evaluation", "methods", "app", "core"},
    "scene": {"scene", "app", "core"},
    "gui": {"gui", "scene", "app", "core"},
    "cli": {"cli", "scene", "training", "evaluation", "methods", "app", "core"},
}
"""The rooms of the library, and the rooms that each may import from; a whole room also stands for its sub-rooms."""

QT = {"qt", "ctk", "PySide6", "PythonQt"}
MRML = {"vtk", "vtkmodules", "slicer", "mrml"}
FORBIDDEN = {
    **dict.fromkeys(("core", "app", "methods", "training", "evaluation", "cli"), QT | MRML),
    "scene": QT,
    "gui": {"PySide6", "PythonQt"},
}

HEAVY = {"torch", "numpy", "scipy", "SimpleITK", "vtk", "vtkmodules", "skimage"}
"""Never imported at file scope by what Slicer imports when it starts."""


def listed_files() -> list[str]:
    """Files that APELocalizer/CMakeLists.txt installs, relative to APELocalizer/."""
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", "APELocalizer")
    blocks = re.findall(r"set\(MODULE_PYTHON_(?:SCRIPTS|RESOURCES)\s([^)]*)\)", text)
    assert len(blocks) == 2
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def installable_files() -> list[str]:
    """Files in the checkout that belong to the installed module."""
    return sorted(
        path.relative_to(MODULE).as_posix()
        for path in MODULE.rglob("*")
        if path.is_file()
        and path.name != "CMakeLists.txt"
        and not path.name.startswith(".")
        and path.suffix not in (".pyc", ".part")
        and not (path.name == "README.md" and path.is_relative_to(LIBRARY))
        and path.relative_to(MODULE).parts[0] != "Testing"
        and not any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    )


@cache
def imported_modules(path: Path, file_scope_only: bool = False) -> frozenset[str]:
    """Full dotted names of everything that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in _nodes_at_file_scope(tree) if file_scope_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def _nodes_at_file_scope(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _nodes_at_file_scope(child)


def room_of(module: str) -> str:
    """Room of a dotted name below APELocalizerLib, such as core/scan; files right in training are its settings."""
    first, *rest = module.split(".")
    if first == "core":
        return f"core/{rest[0]}" if rest else "core"
    if first == "training":
        return f"training/{rest[0] if rest and rest[0] in TRAINING else 'settings'}"
    return first


def module_of(path: Path) -> str:
    """Dotted name of a file below APELocalizerLib."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts)


def python_files() -> list[Path]:
    return sorted(path for path in LIBRARY.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


# Installed files -----------------------------------------------------------------------------------------------------


def test_the_build_files_hold_commands_and_nothing_else():
    """Left-overs of a merge between two lists make CMake stop, and no other test reads the file as CMake does."""
    for path in (ROOT / "CMakeLists.txt", MODULE / "CMakeLists.txt"):
        text = re.sub(r"#.*|\"[^\"]*\"", "", path.read_text(encoding="utf-8"))
        assert re.sub(r"\w+\s*\((?:[^()]|\([^()]*\))*\)", "", text).split() == [], path


def test_cmake_lists_exactly_the_files_that_are_there():
    listed, present = listed_files(), installable_files()
    missing = "\n".join(f"  {name}" for name in sorted(set(present) - set(listed)))
    absent = "\n".join(f"  {name}" for name in sorted(set(listed) - set(present)))
    assert not missing, f"add to APELocalizer/CMakeLists.txt:\n{missing}"
    assert not absent, f"remove from APELocalizer/CMakeLists.txt:\n{absent}"
    assert len(listed) == len(set(listed)), "a file is listed twice"


def test_scripts_and_resources_are_in_their_own_lists():
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    scripts, resources = re.findall(r"set\(MODULE_PYTHON_(?:SCRIPTS|RESOURCES)\s([^)]*)\)", text)
    assert all(line.strip().endswith(".py") for line in scripts.splitlines() if line.strip())
    assert all(line.strip().startswith("Resources/") for line in resources.splitlines() if line.strip())


# Directions of import ------------------------------------------------------------------------------------------------


def test_every_room_has_its_rules():
    rooms = {room_of(module_of(path)) for path in python_files()}
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize("path", python_files(), ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_imports_point_one_way(path):
    room = room_of(module_of(path))
    for name in sorted(imported_modules(path)):
        first, _, rest = name.partition(".")
        assert first not in FORBIDDEN[room.partition("/")[0]], f"{path.relative_to(ROOT)} imports {name}"
        if first == "APELocalizerLib":
            other = room_of(rest)
            allowed = MAY_IMPORT[room] & {other, other.partition("/")[0]}
            assert allowed, f"{path.relative_to(ROOT)} ({room}) imports {name} ({other})"


def test_no_circle_of_imports():
    """No file of the library leads back to itself, also within a room."""
    names = {f"APELocalizerLib.{module_of(path)}": path for path in python_files()}
    arrows = {
        name: {other for other in names if any(f"{used}.".startswith(f"{other}.") for used in imported_modules(path))}
        for name, path in names.items()
    }
    while arrows:
        ends = {name for name, others in arrows.items() if not others & arrows.keys() - {name}}
        assert ends, f"imports go in a circle through {sorted(arrows)}"
        arrows = {name: others for name, others in arrows.items() if name not in ends}


def test_package_files_import_nothing():
    for path in set(LIBRARY.rglob("__init__.py")) - {LIBRARY / "__init__.py"}:
        assert not imported_modules(path), path.relative_to(ROOT)


def test_library_package_file_imports_nothing_heavy():
    assert imported_modules(LIBRARY / "__init__.py") <= {"importlib.import_module"}
    assert not imported_modules(LIBRARY / "__init__.py", file_scope_only=True)


def test_nothing_heavy_is_imported_when_slicer_starts():
    names = {f"APELocalizerLib.{module_of(path)}": path for path in python_files()}
    waiting, seen = [*MODULE.glob("*.py"), *sorted((LIBRARY / "gui").rglob("*.py"))], set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        used = imported_modules(path, file_scope_only=True)
        heavy = {name for name in used if name.partition(".")[0] in HEAVY}
        # Slicer itself has loaded vtk before any scripted module.
        heavy -= {name for name in heavy if name.partition(".")[0] in ("vtk", "vtkmodules")}
        assert not heavy, f"{path.relative_to(ROOT)} imports {sorted(heavy)} at file scope"
        waiting += {names[name.rpartition(".")[0]] for name in used if name.rpartition(".")[0] in names} - seen


@pytest.mark.parametrize("room", ["core", "scene", "gui"])
def test_library_does_not_print(room):
    for path in sorted((LIBRARY / room).rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        assert not [call for call in calls if getattr(call.func, "id", "") == "print"], path.relative_to(ROOT)


# Metadata ------------------------------------------------------------------------------------------------------------


def test_torch_is_never_installed_by_the_module():
    for path in MODULE.rglob("*.py"):
        assert "pip_install" not in path.read_text(encoding="utf-8"), path.relative_to(ROOT)


# Sample data ---------------------------------------------------------------------------------------------------------


# Command line --------------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from APELocalizerLib.cli.program import build_parser\n"
        "build_parser().format_help()\n"
        f"heavy = sorted({HEAVY | {'slicer'}!r} & set(sys.modules))\n"
        "sys.exit(', '.join(heavy) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(MODULE)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"the parser imports {done.stderr}"
