"""The models that have a name: the one that comes with the extension, and the published one."""

import json
from dataclasses import dataclass

from APELocalizerLib.core.base.resources import resources_folder

RESOURCES = resources_folder()
"""Folder with the files that come with the extension."""

PUBLISHED_REVISION = "a743d914ca8ba47d4e7371c6906c40c976437685"
"""Of the published weights: a file under it never changes."""

PUBLISHED_CITATION = "Goncharov M. et al., Anatomical Positional Embeddings, arXiv:2409.10291 (2024)"


@dataclass(frozen=True)
class RegistryEntry:
    """A model that can be named. `url` is None for the embedded one; `sha256` None means recorded at download."""

    id: str
    title: str
    file_name: str
    license: str
    citation: str
    training_data: str
    size_bytes: int | None
    sha256: str | None
    url: str | None = None


def _embedded_card() -> dict:
    path = RESOURCES / "Models" / "default.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def registry() -> tuple[RegistryEntry, ...]:
    """All known models, the embedded default first."""
    card = _embedded_card()
    return (
        RegistryEntry(
            id="default",
            title="APELocalizer default (embedded)",
            file_name="default.pt",
            license=card.get("licence", "MIT"),
            citation=card.get("citation", PUBLISHED_CITATION),
            training_data=card.get("training_data", ""),
            size_bytes=card.get("size_bytes"),
            sha256=card.get("sha256"),
        ),
        RegistryEntry(
            id="ape-published",
            title="APE published (Hugging Face mishgon/ape)",
            file_name="ape.pt",
            license="MIT as published; AbdomenAtlas 1.0 Mini, one of its training sets, is CC BY-NC-SA 4.0",
            citation=PUBLISHED_CITATION,
            training_data="NLST, AMOS CT, AbdomenAtlas 1.0 Mini",
            size_bytes=None,
            sha256=None,
            url=f"https://huggingface.co/mishgon/ape/resolve/{PUBLISHED_REVISION}/ape.pt",
        ),
    )
