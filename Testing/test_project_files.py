"""Versions, names and addresses agree wherever they stand, and the files of the project's hosts are valid."""

import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from APELocalizerLib.core.base.torch_version import SAFE_PYTORCH

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


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


def test_pip_installs_a_pytorch_that_opens_every_model_file():
    """CVE-2025-32434: older ones can be made to run code by a prepared file, so that they open few (`SAFE_PYTORCH`)."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    least = re.search(r'"torch>=(\d+)\.(\d+)"', project)
    assert tuple(map(int, least.groups())) == SAFE_PYTORCH


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
