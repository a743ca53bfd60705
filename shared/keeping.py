"""What takes up the storage, and whose it is. What no row names is stray: a process that was killed left it behind.

A file is stray only to rows; it may go when it has also been left alone for long, as whoever writes one notes it within
seconds. It goes by way of `trash`, which asks once more.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from sqlalchemy import ColumnElement, insert, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.db import Sessions
from shared.models import Archive, Dataset, Fetch, Image, Item, Prior, Training, Trash, Upload
from shared.states import DatasetState
from shared.storage import Storage

_Column = InstrumentedAttribute[str] | InstrumentedAttribute[str | None]

_CHUNK = 500
_MOST = 100_000
"""Strays that are remembered at once; what is left of them is found the next time."""


class Kind(StrEnum):
    """What a stored file is. `deleted` waits for the sweep; `other` is nothing that Regrow has put there."""

    ORIGINALS = "originals"
    PREVIEWS = "previews"
    RESULTS = "results"
    ARCHIVES = "archives"
    UPLOADS = "uploads"
    TRAININGS = "trainings"
    FETCHES = "fetches"
    PRIORS = "priors"
    DELETED = "deleted"
    STRAYS = "strays"
    OTHER = "other"


_PATTERNS = {
    Kind.TRAININGS: re.compile(r"(?P<goes>trainings/(?P<id>[^/]+)/).+"),
    Kind.FETCHES: re.compile(r"(?P<goes>fetches/(?P<id>[^/]+)/).+"),
    Kind.PRIORS: re.compile(r"(?P<goes>priors/(?P<id>[^/]+)/).+"),
    # Never a name that a row has: a write that did not end, or a look whether there is room.
    Kind.STRAYS: re.compile(r"probes/[^/]+|(.+/)?\.[^/]+\.[0-9a-f]{8}\.part"),
    Kind.ORIGINALS: re.compile(r"sources/sha256/[^/]+/(?P<id>[^/.]+)"),
    Kind.PREVIEWS: re.compile(r"(?P<goes>sources/sha256/[^/]+/(?P<id>[^/.]+))(\.stored)?\.preview"),
    Kind.RESULTS: re.compile(r"jobs/[^/]+/items/\d+-(?P<id>[^/.]+)\.\w+"),
    Kind.ARCHIVES: re.compile(r"archives/[^/]+-(?P<id>[^/.]+)\.zip"),
    Kind.UPLOADS: re.compile(r"uploads/(?P<id>[^/]+)\.zip"),
}
"""What each kind looks like. `id` is what a row may know it by, beside its key; `goes` is what is removed with it."""

_ORIGINALS = ((Image.sha256, true()), (Image.mask_sha256, true()))
_CHECKED = Dataset.state == DatasetState.CHECKING
_ROWS: Mapping[Kind, tuple[tuple[_Column, ColumnElement[bool]], ...]] = {
    Kind.ORIGINALS: _ORIGINALS,
    Kind.PREVIEWS: _ORIGINALS,
    # The token is that of somebody who is at it, and has not noted it yet.
    Kind.RESULTS: ((Item.result_key, true()), (Item.token, true())),
    Kind.ARCHIVES: ((Archive.key, true()), (Archive.token, true())),
    Kind.UPLOADS: ((Upload.id, Upload.received < Upload.size), (Dataset.id, _CHECKED)),
    Kind.TRAININGS: ((Training.id, true()),),
    Kind.FETCHES: ((Fetch.id, true()),),
    # One that is being installed has no row of its own yet.
    Kind.PRIORS: (
        (Prior.training_id, true()),
        (Prior.fetch_id, true()),
        (Training.id, true()),
        (Fetch.id, true()),
    ),
}
"""Where the names of a kind stand."""


@dataclass(frozen=True, slots=True)
class _Looks:
    """What a file looks like: its kind, its names in rows, and the key by which it would be removed."""

    kind: Kind
    names: frozenset[str]
    key: str

    @classmethod
    def of(cls, key: str) -> "_Looks":
        for kind, pattern in _PATTERNS.items():
            if match := pattern.fullmatch(key):
                said = match.groupdict()
                return cls(kind, frozenset({key, said.get("id") or key}), said.get("goes") or key)
        return cls(Kind.OTHER, frozenset(), key)


@dataclass
class Census:
    """How many files of each kind there are, their bytes, and the keys of strays that may go."""

    files: Counter[Kind] = field(default_factory=Counter)
    bytes: Counter[Kind] = field(default_factory=Counter)
    strays: dict[str, int] = field(default_factory=dict)
    """Bytes by key; a key with a slash at its end is a folder."""
    unknown: int = 0
    """Files that look as if a row had named them, and none does."""

    @property
    def foreign(self) -> bool:
        """Whether more files are unknown than known: it may be the storage of another database."""
        known = sum(count for kind, count in self.files.items() if kind not in (Kind.STRAYS, Kind.OTHER))
        return self.unknown > known


def census(sessions: Sessions, storage: Storage, older: float = 0.0) -> Census:
    """Look at all that is stored; strays that nobody wrote to for `older` seconds are those that may go."""
    found = Census()
    files = storage.files()
    while chunk := list(islice(files, _CHUNK)):
        looks = [_Looks.of(stored.key) for stored in chunk]
        with sessions.read() as session:
            kinds = _kinds(session, looks)
        for stored, look, kind in zip(chunk, looks, kinds, strict=True):
            found.files[kind] += 1
            found.bytes[kind] += stored.size
            if kind != Kind.STRAYS:
                continue
            found.unknown += look.kind != Kind.STRAYS
            if stored.age >= older and (look.key in found.strays or len(found.strays) < _MOST):
                found.strays[look.key] = found.strays.get(look.key, 0) + stored.size
    return found


def throw(session: Session, keys: Iterable[str]) -> None:
    """Note strays, to be removed when `trash` is emptied."""
    rest = iter(keys)
    while chunk := list(islice(rest, _CHUNK)):
        session.execute(insert(Trash), [{"key": key} for key in chunk])


def _kinds(session: Session, looks: Sequence[_Looks]) -> list[Kind]:
    """What each file is, by the rows."""
    named = {kind: _named(session, kind, looks) for kind in Kind}
    keys = [look.key for look in looks]
    deleted = set(session.scalars(select(Trash.key).where(Trash.key.in_(keys))))

    def kind(look: _Looks) -> Kind:
        if look.kind == Kind.OTHER or look.names & named[look.kind]:
            return look.kind
        return Kind.DELETED if look.key in deleted else Kind.STRAYS

    return [kind(look) for look in looks]


def _named(session: Session, kind: Kind, looks: Sequence[_Looks]) -> set[str]:
    """Those of the names of files of a kind that a row has."""
    names = {name for look in looks if look.kind == kind for name in look.names}
    if not names:
        return set()
    rows = [select(column).where(which, column.in_(names)) for column, which in _ROWS.get(kind, ())]
    return {name for each in rows for name in session.scalars(each) if name is not None}
