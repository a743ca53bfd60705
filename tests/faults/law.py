"""What must hold of a job when it is over, whatever died in between."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from installation import Site

from shared.states import ItemState

Key = tuple[str, int]
"""Source image and variant."""


@dataclass(frozen=True)
class Undisturbed:
    """What an undisturbed job of the same spec made: its archive, and how many items it had."""

    members: Mapping[str, bytes]
    items: frozenset[Key]


def undisturbed(site: Site, job_id: str) -> Undisturbed:
    """To compare with: a job during which nothing happened."""
    with site.archive(job_id) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    made = site.items(job_id)
    assert {(item.state, item.attempts) for item in made} == {(ItemState.DONE, 0)}
    return Undisturbed(members, frozenset((item.image.path, item.variant) for item in made))


def check(site: Site, job_id: str, like: Undisturbed, failed: Mapping[Key, str] | None = None) -> None:
    """The job is over; every item is done, but for those in `failed`, which failed with the error named there; no image
    is missing, none is there twice; images and labels are those of the undisturbed job, byte for byte; and no item but
    the failed was charged with an attempt."""
    failed = failed or {}
    with site.archive(job_id) as archive:
        names = archive.namelist()
        members = {name: archive.read(name) for name in names}
    items = site.items(job_id)
    assert sorted((item.image.path, item.variant) for item in items) == sorted(like.items)
    for item in items:
        key = item.image.path, item.variant
        error = (item.error or {}).get("type")
        if key in failed:
            assert (item.state, error) == (ItemState.FAILED, failed[key]), key
        else:
            assert (item.state, item.attempts, error) == (ItemState.DONE, 0, None), key

    assert len(names) == len(set(names)), "a name is in the archive twice"
    rows = [json.loads(line) for line in members["manifest.jsonl"].splitlines()]
    assert sorted((row["source"], row["variant"]) for row in rows) == sorted(like.items - failed.keys())
    for row in rows:
        assert hashlib.sha256(members[row["file"]]).hexdigest() == row["sha256"], row["file"]
    left_out = _files(like, failed)
    about = {"manifest.jsonl", "report.html", "methods.md"} | ({"groups.csv"} if failed else set())
    assert members.keys() == like.members.keys() - left_out
    for name in members.keys() - about:
        assert members[name] == like.members[name], f"{name} differs from the undisturbed job's"


def images(site: Site, job_id: str) -> list[Key]:
    """What new images the job's archive says it holds."""
    with site.archive(job_id) as archive:
        rows = [json.loads(line) for line in archive.read("manifest.jsonl").splitlines()]
    return [(row["source"], row["variant"]) for row in rows if row["file"] in archive.namelist()]


def _files(like: Undisturbed, failed: Mapping[Key, str]) -> set[str]:
    rows = [json.loads(line) for line in like.members["manifest.jsonl"].splitlines()]
    gone = [row for row in rows if (row["source"], row["variant"]) in failed]
    return {row[what] for row in gone for what in ("file", "label")}
