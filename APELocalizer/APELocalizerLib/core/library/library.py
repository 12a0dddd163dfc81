"""LandmarkLibrary: what was clicked once, as embeddings that can be found on every other scan.

A library holds landmarks (points) and organs (six extreme points), each with one embedding per support scan (a "shot"),
and the compact embedding map of every support, so that one file is enough to share. It is immutable: every change
returns a new library, so undo is keeping the old one. Positions are RAS world mm of the support.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.map_files import from_compact, to_compact
from APELocalizerLib.core.library.entries import Landmark, Organ, refuse_duplicates

Entry = TypeVar("Entry", Landmark, Organ)
"""Entries of one kind."""


@dataclass(frozen=True)
class Support:
    """A scan that was clicked on: its embedding map in compact form, and its coarse CT (`CoarseCT`; "" for none)."""

    id: str
    name: str
    compact_map: str = field(repr=False)
    coarse_ct: str = field(default="", repr=False)

    @classmethod
    def of(cls, embedding_map: EmbeddingMap) -> "Support":
        """The support of a scan's embedding map."""
        coarse_ct = "" if embedding_map.coarse_ct is None else embedding_map.coarse_ct.to_text()
        support = cls(support_id_of(embedding_map), embedding_map.scan_name, to_compact(embedding_map), coarse_ct)
        support.__dict__["space"] = embedding_map.space  # known without decoding what was just encoded
        return support

    @cached_property
    def map(self) -> EmbeddingMap:
        """The support's embedding map, decoded, with its coarse CT if the library holds it."""
        coarse_ct = CoarseCT.from_text(self.coarse_ct) if self.coarse_ct else None
        return from_compact(self.compact_map).with_coarse_ct(coarse_ct)

    @cached_property
    def space(self) -> CoordinateSpace:
        """What the support's embeddings mean."""
        return self.map.space


def support_id_of(embedding_map: EmbeddingMap) -> str:
    """Id of a scan as support: its fingerprint, or its name where it has none."""
    return embedding_map.scan_fingerprint or embedding_map.scan_name


@dataclass(frozen=True)
class LandmarkLibrary:
    """Landmarks, organs and supports that belong to one model (None while the library is empty)."""

    model_id: str | None = None
    landmarks: tuple[Landmark, ...] = ()
    organs: tuple[Organ, ...] = ()
    supports: tuple[Support, ...] = ()

    def __post_init__(self) -> None:
        refuse_duplicates("landmark or organ", [entry.name for entry in self.entries])
        refuse_duplicates("support", [support.id for support in self.supports])
        if self.entries and not self.model_id:
            raise LibraryError("A library with landmarks must name the model they were learned with.")
        known = {support.id for support in self.supports}
        for entry in self.entries:
            unknown = [shot.support_id for shot in entry.shots if shot.support_id not in known]
            if unknown:
                raise LibraryError(
                    f'"{entry.name}" refers to the support scan "{unknown[0]}", which the library lacks. '
                    "The file is damaged: open another copy, or learn the landmark again."
                )

    @property
    def entries(self) -> tuple[Landmark | Organ, ...]:
        """Landmarks, then organs."""
        return (*self.landmarks, *self.organs)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all landmarks and organs."""
        return tuple(entry.name for entry in self.entries)

    @cached_property
    def space(self) -> CoordinateSpace | None:
        """What the embeddings of all supports mean; None without supports.

        Raises `LibraryError` if supports cannot be compared with each other.
        """
        try:
            return CoordinateSpace.shared(support.space for support in self.supports)
        except ValueError as error:
            raise LibraryError(
                f"The library mixes support scans whose coordinates cannot be compared ({error}). Learn it again, with "
                "one reference for all scans."
            ) from error

    def landmark(self, name: str) -> Landmark:
        """The landmark of that name; raises `LibraryError` if there is none."""
        return _find(self.landmarks, name, "landmark")

    def organ(self, name: str) -> Organ:
        """The organ of that name; raises `LibraryError` if there is none."""
        return _find(self.organs, name, "organ")

    def support(self, support_id: str) -> Support:
        """The support of that id; raises `LibraryError` if there is none."""
        for support in self.supports:
            if support.id == support_id:
                return support
        raise LibraryError(f'The library holds no support scan "{support_id}".')

    # Changes: each returns a new library ---------------------------------------------------------------------------

    def with_support(self, embedding_map: EmbeddingMap) -> "LandmarkLibrary":
        """Add the scan of an embedding map as support, or replace the one of the same scan."""
        self._check_space(embedding_map.space)
        support = Support.of(embedding_map)
        others = tuple(s for s in self.supports if s.id != support.id)
        return replace(self, model_id=embedding_map.model_id, supports=(*others, support))

    def with_landmark(self, landmark: Landmark) -> "LandmarkLibrary":
        """Add a landmark, or its shots to the one of the same name (a new shot replaces one on the same support)."""
        return self.with_landmarks([landmark])

    def with_landmarks(self, landmarks: Iterable[Landmark]) -> "LandmarkLibrary":
        """Add landmarks, each as `with_landmark` does."""
        return replace(self, landmarks=_added(self.landmarks, landmarks, self.organs, ("landmark", "an organ")))

    def with_organ(self, organ: Organ) -> "LandmarkLibrary":
        """Add an organ, or add its shots to the one of the same name (a new shot replaces one on the same support)."""
        return self.with_organs([organ])

    def with_organs(self, organs: Iterable[Organ]) -> "LandmarkLibrary":
        """Add organs, each as `with_organ` does."""
        return replace(self, organs=_added(self.organs, organs, self.landmarks, ("organ", "a landmark")))

    def merged(self, other: "LandmarkLibrary") -> "LandmarkLibrary":
        """Everything of both libraries; shots of equally named entries are joined. A coarse CT in either is kept."""
        if other.space is not None:
            self._check_space(other.space)
        supports = {support.id: support for support in self.supports}
        for support in other.supports:
            if support.id not in supports or (support.coarse_ct and not supports[support.id].coarse_ct):
                supports[support.id] = support
        model_id = self.model_id or other.model_id
        result = replace(self, model_id=model_id, supports=tuple(supports.values()))
        return result.with_landmarks(other.landmarks).with_organs(other.organs)

    def renamed(self, old: str, new: str) -> "LandmarkLibrary":
        """The landmark or organ `old` under the name `new`."""
        if old not in self.names:
            raise LibraryError(f'The library holds no landmark or organ "{old}".')
        return replace(
            self,
            landmarks=tuple(replace(e, name=new) if e.name == old else e for e in self.landmarks),
            organs=tuple(replace(e, name=new) if e.name == old else e for e in self.organs),
        )

    def without(self, name: str) -> "LandmarkLibrary":
        """The library without one landmark or organ, and without supports that nothing refers to any more."""
        if name not in self.names:
            raise LibraryError(f'The library holds no landmark or organ "{name}".')
        return self.subset(set(self.names) - {name})

    def subset(self, names: Iterable[str]) -> "LandmarkLibrary":
        """Only the landmarks and organs named, and the supports that they refer to."""
        wanted = set(names)
        landmarks = tuple(e for e in self.landmarks if e.name in wanted)
        organs = tuple(e for e in self.organs if e.name in wanted)
        used = {shot.support_id for entry in self.entries if entry.name in wanted for shot in entry.shots}
        supports = tuple(s for s in self.supports if s.id in used)
        model_id = self.model_id if supports else None
        return LandmarkLibrary(model_id, landmarks, organs, supports)

    def _check_space(self, space: CoordinateSpace) -> None:
        if self.model_id is not None and space.model_id != self.model_id:
            raise LibraryError(
                f"This library was learned with the model {self.model_id}, but the new landmarks with "
                f"{space.model_id}. Their embeddings cannot be compared: choose the library's model, or start a new "
                "library."
            )
        if self.space is not None and not self.space.fits(space):
            raise LibraryError(
                f"The coordinates of this library are {self.space.in_words()}, those of the new landmarks are "
                f"{space.in_words()}. They cannot be compared: map the new scan with the library's reference, or "
                "start a new library."
            )


def _find(entries: tuple[Entry, ...], name: str, what: str) -> Entry:
    for entry in entries:
        if entry.name == name:
            return entry
    raise LibraryError(f'The library holds no {what} "{name}".')


def _added(
    entries: tuple[Entry, ...], added: Iterable[Entry], others: tuple[Landmark | Organ, ...], kinds: tuple[str, str]
) -> tuple[Entry, ...]:
    """The entries and the added ones; of equal names the shots are joined, a new one instead of one on its support.

    Raises `LibraryError` if one of the `others` has the name of an added one; `kinds` says what added and others are.
    """
    by_name, taken = {entry.name: entry for entry in entries}, {other.name for other in others}
    for new in added:
        if new.name in taken:
            raise LibraryError(f'"{new.name}" is already {kinds[1]} of the library. Give the {kinds[0]} another name.')
        old = by_name.get(new.name)
        by_name[new.name] = new if old is None else _joined(old, new)
    return tuple(by_name.values())


def _joined(old: Entry, new: Entry) -> Entry:
    """The old entry with the shots of both, a new one instead of one on its support; a new code or description wins."""
    replaced = {shot.support_id for shot in new.shots}
    kept = tuple(shot for shot in old.shots if shot.support_id not in replaced)
    return replace(
        old, shots=kept + new.shots, code=new.code or old.code, description=new.description or old.description
    )
