"""The documents tell the truth: their examples run, their links lead somewhere, their figures are the measured ones."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from made_up.paths import SAMPLES

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "APELocalizer" / "APELocalizerLib"
REFERENCE = LIBRARY / "cli" / "README.md"
README = ROOT / "README.md"

MOST_WORDS = 1300
"""Words of the first page, so that one sees in a minute what this is."""


def documents() -> list[Path]:
    """Every page that is written by hand."""
    pages = [*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md")]
    pages += [*(ROOT / "Resources").rglob("README.md"), *(ROOT / "APELocalizer").rglob("*.md")]
    return sorted(pages)


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language: `python` and `sh` are executed here, `text` needs a network or other files."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for marked, block in fences if marked == language]


def commands(block: str) -> list[list[str]]:
    """Words of each command of a shell block."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# Examples ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder in which the sample data lies where it lies in the repository, and what is written goes elsewhere."""
    os.symlink(ROOT / "Resources", tmp_path / "Resources")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [README, REFERENCE], ids=name_of)
def test_every_command_shown_works(page, checkout, capsys):
    from APELocalizerLib.cli.program import main

    shown = [words for block in blocks(page, "sh") for words in commands(block)]
    assert shown
    for words in shown:
        assert words[0] == "ape-localizer"
        assert main(words[1:]) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"
    assert (checkout / "results" / "results.csv").is_file()


def test_the_example_for_slicers_console_works(checkout):
    """In a process of its own: stand-ins for Slicer's Qt are put in place for good."""
    code = "\n".join(
        (
            "import slicer_stand_ins.installed, slicer, slicer.util, gc",
            "from APELocalizerLib.core.scan.read import read_scan",
            "from APELocalizerLib.scene.headless import add_volume, open_headless_scene",
            "with open_headless_scene():",
            "    for name in ('support_ct', 'target_ct'):",
            f"        scan = read_scan({str(SAMPLES)!r} + f'/{{name}}.nii.gz')",
            "        add_volume(scan.voxels, scan.ijk_to_ras, name)",
            f"    exec({slicer_example()!r})",
            "    del scan, logic, support, target, clicks, library, results",
            "    gc.collect()",
        )
    )
    folders = os.pathsep.join([str(ROOT / "APELocalizer"), str(ROOT / "Testing")])
    done = run_python(code, PYTHONPATH=folders, QT_QPA_PLATFORM="offscreen")
    r, a, s = map(float, re.search(r"\[\[([^]]*)\]\]", done.stdout).group(1).split())
    target = {words[0]: words[1:] for words in point_rows(SAMPLES / "target_points.csv")}
    error = sum((x - float(y)) ** 2 for x, y in zip((r, a, s), target["lung_apex_right"], strict=True)) ** 0.5
    assert error < 6, "the tutorial says 3 mm"
    assert (checkout / "landmarks.json").is_file()


def test_the_example_without_slicer_works(checkout, capsys):
    (example,) = (block for block in blocks(README, "python") if "APELocalizerLogic" not in block)
    exec(example, {})
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("lung_apex_right found (") for line in lines) and len(lines) == 26


def slicer_example() -> str:
    (example,) = (block for block in blocks(README, "python") if "APELocalizerLogic" in block)
    return example


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done


def point_rows(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def test_slicer_lacks_nothing_that_its_example_needs():
    """Slicer has no pandas, which `dataframeFromTable` needs."""
    assert "dataframe" not in slicer_example() and "pandas" not in slicer_example()
    module = (ROOT / "APELocalizer" / "APELocalizer.py").read_text(encoding="utf-8")
    assert "dataframe" not in module


@pytest.mark.parametrize("page", documents(), ids=name_of)
def test_commands_that_are_only_shown_exist(page):
    from APELocalizerLib.cli.program import build_parser

    usage = build_parser().format_help()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    lines = "".join([*blocks(page, "text"), *blocks(page, "")]).splitlines()
    for words in (line.split() for line in lines):
        if words[:1] == ["ape-localizer"]:
            assert re.search(rf"^    {words[1]}\s", usage, re.MULTILINE), words
        if words[:1] == ["make"]:
            assert words[1] in targets, words


def test_every_code_block_is_executed_or_marked_as_text():
    for page in (README, REFERENCE, LIBRARY / "README.md"):
        fences = re.findall(r"^```(\w*)\n.*?^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for language in fences:
            assert language in ("python", "sh", "text"), f"{name_of(page)}: a block is marked {language!r}"


def test_packages_that_pages_and_messages_name_can_be_installed_from_a_clone():
    """The package is on no index, so that every hint names the folder: pip install ".[slicer]"."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    optional = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = re.findall(r"^(\w+) = \[", optional, re.MULTILINE)
    texts = [*documents(), *LIBRARY.rglob("*.py")]
    named = {
        (package, extra)
        for path in texts
        for package, extra in re.findall(r'pip install "([\w.]+)\[(\w+)\]"', path.read_text(encoding="utf-8"))
    }
    assert named and {extra for _, extra in named} <= set(extras)
    assert {package for package, _ in named} == {"."}


# Style ---------------------------------------------------------------------------------------------------------------


def test_the_first_page_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= MOST_WORDS


@pytest.mark.parametrize("page", [README, REFERENCE, LIBRARY / "README.md"], ids=name_of)
def test_lines_are_not_too_long(page):
    assert not [line for line in page.read_text(encoding="utf-8").splitlines() if len(line) > 120]


@pytest.mark.parametrize("page", documents(), ids=name_of)
def test_links_lead_to_files_and_headings_that_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r'(?:\]\(|src=")([^)"\s]+)', text):
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists() and target.is_relative_to(ROOT), f"{name_of(page)} links to {link}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{name_of(page)} links to {link}"


@pytest.mark.parametrize(
    "word", ["checkpoint", "licence", "centre", "neighbour", "millimetre", "edge point", "way back", "set-up"]
)
def test_the_first_page_has_one_word_per_thing(word):
    assert word not in README.read_text(encoding="utf-8").lower()


# Figures -------------------------------------------------------------------------------------------------------------


def test_the_first_page_names_the_measured_errors():
    figures = json.loads((ROOT / "Resources" / "Evaluation" / "figures.json").read_text(encoding="utf-8"))
    landmarks = figures["landmarks, mm"]
    text = " ".join(README.read_text(encoding="utf-8").split())
    one, several = landmarks["one support"], landmarks["all supports"]
    assert f"was {one['median']:.0f} mm when learned on one patient" in text
    assert f"{several['median']:.0f} mm when learned on up to twenty" in text
    assert f"off by more than {one['p90']:.0f} mm" in text
    assert f"one in ten: {several['p90']:.0f} mm" in text


def test_the_first_page_names_the_worst_places_beside_the_best():
    report = (ROOT / "Resources" / "Evaluation" / "report.md").read_text(encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    limits = " ".join(text[text.index("## Limits") :].split())
    landmarks = {name: row for name, row in rows_of(report, "## Landmarks: distance").items() if "*" not in name}
    by_median = sorted(landmarks, key=lambda name: float(re.search(r"\(([\d.]+)\)", landmarks[name][2]).group(1)))
    assert set(by_median[-2:]) == {"kidney_left_upper_pole", "kidney_right_upper_pole"}
    assert "Worst: the upper poles of the kidneys" in limits
    assert {"lung_apex_left", "lung_apex_right", "suprasternal_notch"} <= set(by_median[:4])
    overlaps = rows_of(report, "## Boxes: overlap (IoU)\n")
    for organ in ("lung_left", "lung_right", "spleen", "kidney_right"):
        assert overlaps[organ][2].split()[0] in limits, organ
    worst = min((name for name in overlaps if "*" not in name), key=lambda name: float(overlaps[name][2].split()[0]))
    assert worst == "kidney_right"


def rows_of(report: str, heading: str) -> dict[str, list[str]]:
    """Cells of the rows of the table below a heading, by the first cell."""
    table = report[report.index(heading) + len(heading) :].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {row[0]: row for row in rows[2:]}


# The code on one page ------------------------------------------------------------------------------------------------


def test_every_room_is_on_the_page_of_the_code_and_is_there():
    page = (LIBRARY / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w/]+)` \|", page[page.index("## Rooms") : page.index("## Conventions")], re.MULTILINE)
    assert sorted(named) == rooms()


def rooms() -> list[str]:
    """Folders of the library; `core` and `training` in sub-rooms, and what lies right in these two."""
    folders = [path.parent for path in LIBRARY.rglob("__init__.py") if path.parent != LIBRARY]
    names = {folder.relative_to(LIBRARY).as_posix() for folder in folders}
    return sorted(names - {"core", "training"} | {"core/embedder", "training/settings"})


def test_files_named_on_the_page_of_the_code_exist():
    page = (LIBRARY / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"`((?:\.\./)?[\w./]+\.(?:py|csv|ui|txt))`", page)
    assert len(names) > 8
    folders = (LIBRARY, LIBRARY / "core" / "localization", ROOT)
    missing = [name for name in names if not any((folder / name).exists() for folder in folders)]
    assert not missing


@pytest.mark.parametrize("page", documents(), ids=name_of)
def test_rooms_that_pages_name_are_where_they_say(page):
    names = re.findall(r"`((?:core|app|methods|training|scene|gui|cli)/[\w/]+\.py)`", page.read_text(encoding="utf-8"))
    assert not [name for name in names if not (LIBRARY / name).exists()]


def test_how_a_landmark_is_found_leads_to_one_file():
    page = (LIBRARY / "README.md").read_text(encoding="utf-8")
    assert re.search(r"How is a landmark found\?\*\* Read `core/localization/localize\.py`", page)


# Versions, names and addresses ---------------------------------------------------------------------------------------


def project_setting(name: str) -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(rf'^{name} = "(.*)"$', text, re.MULTILINE).group(1)


def extension_setting(name: str) -> str:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(rf'^set\(EXTENSION_{name} "(.*)"\)$', text, re.MULTILINE).group(1)


def read_yaml(path: Path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere():
    version = project_setting("version")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r'^version: "(.*)"$', citation, re.MULTILINE).group(1) == version
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE).group(1) == version


def test_contributors_and_address_are_those_of_the_extension():
    """`CMakeLists.txt` is the one place to change; this test names what has to follow."""
    home, who = extension_setting("HOMEPAGE"), extension_setting("CONTRIBUTORS")
    assert home.startswith("https://github.com/") and home.rsplit("/", 1)[1].startswith("Slicer")
    raw = home.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    for address in (extension_setting("ICONURL"), *extension_setting("SCREENSHOTURLS").split()):
        assert address.startswith(raw)
    assert f"git clone {home} && cd {home.rsplit('/', 1)[1]}" in README.read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'repository-code: "{home}"' in citation and f'name: "{who}"' in citation
    assert f'authors = [{{ name = "{who}" }}]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert who in (ROOT / "LICENSE").read_text(encoding="utf-8")


ENTRY = {
    "type": "object",
    "required": ["$schema", "category", "scm_url"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"pattern": r"/slicer-extension-catalog-entry-schema-v1\.0\.\d\.json#$"},
        "build_dependencies": {"type": "array", "items": {"type": "string"}},
        "build_subdirectory": {"type": "string"},
        "category": {"enum": ["Analysis", "Informatics", "Quantification", "Registration", "Segmentation"]},
        "scm_revision": {"type": "string"},
        "scm_url": {"type": "string", "pattern": r"^https://.*\.git$"},
        "tier": {"type": "integer", "minimum": 1, "maximum": 5},
    },
}
"""What Slicer's schema 1.0.2 asks of a catalog entry, as far as ours uses it; without categories of other fields."""


@pytest.mark.parametrize("branch", ["main", "stable"])
def test_the_entry_of_the_extensions_index_fits_the_extension(branch):
    path = ROOT / ".github" / "extensions-index" / branch / "APELocalizer.json"
    data = path.read_bytes()
    assert b"\r" not in data
    entry = json.loads(data)
    jsonschema.validate(entry, ENTRY)
    assert entry["scm_url"] == extension_setting("HOMEPAGE") + ".git"
    assert entry["build_dependencies"] == extension_setting("DEPENDS").split()
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(rf"^project\({path.stem}\)$", cmake, re.MULTILINE)


def test_the_citation_file_is_valid():
    """The fields that the Citation File Format 1.2 requires, and the kinds of those that we use."""
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"]
    known = {"cff-version", "message", "title", "abstract", "type", "authors", "version", "license", "repository-code"}
    assert set(citation) <= known | {"keywords", "preferred-citation", "references"}
    assert citation["type"] == "software" and citation["license"] == "MIT"
    assert isinstance(citation["version"], str)
    for work in (citation, citation["preferred-citation"], *citation["references"]):
        assert work["authors"]
        for author in work["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"})
    for work in (citation["preferred-citation"], *citation["references"]):
        assert work["type"] == "article" and work["title"] and isinstance(work["year"], int)


def test_the_workflow_runs_what_a_developer_runs():
    workflow = read_yaml(ROOT / ".github" / "workflows" / "ci.yml")
    assert [".ci/run"] == [step["run"] for step in workflow["jobs"]["test"]["steps"] if ".ci" in step.get("run", "")]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    libraries = re.search(r"libraries=\((.*)\)", (ROOT / ".ci" / "run").read_text(encoding="utf-8")).group(1).split()
    assert set(libraries) <= set(" ".join(step.get("run", "") for step in workflow["jobs"]["test"]["steps"]).split())


def test_a_bug_report_asks_for_version_and_log():
    form = read_yaml(ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml")
    required = {part["id"] for part in form["body"] if part.get("validations", {}).get("required")}
    assert {"slicer", "log", "steps"} <= required
    assert "no patient" in form["body"][0]["attributes"]["value"]


def test_the_checks_before_a_commit_are_those_of_make_lint():
    hooks = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    assert {hook["id"] for repository in hooks for hook in repository["hooks"]} == {"ruff", "ruff-format", "codespell"}
