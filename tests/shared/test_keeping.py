"""What is stored is sorted by whose it is, and only what is nobody's goes."""

import os
import time
from dataclasses import replace

import pytest
from rows import Make, add_dataset, claim, new_image
from sqlalchemy import update

from shared import archives, items, jobs, keeping, trash, uploads
from shared.db import Sessions, now
from shared.items import Result
from shared.keeping import Kind, census
from shared.models import Archive, Dataset, Fetch, Job, Prior, Training, Trash, Upload
from shared.states import ArchiveState, DatasetState
from shared.storage import Folder, archive_key, fetch_key, preview_key, result_key, source_key, training_key, upload_key

DAY = 86400.0


def write(storage: Folder, key: str, *, days: float = 30) -> str:
    """A file that nobody has written to for so many days."""
    storage.write(key, b"0123456789")
    os.utime(storage.path(key), (time.time() - days * DAY,) * 2)
    return key


def stored(storage: Folder) -> set[str]:
    return {each.key for each in storage.files()}


def remove(sessions: Sessions, storage: Folder, older: float) -> None:
    found = census(sessions, storage, older)
    with sessions.write() as session:
        keeping.throw(session, found.strays)
    while True:
        with sessions.write() as session:
            if not trash.empty(session, storage):
                return


@pytest.fixture
def kept(sessions: Sessions, storage: Folder, make_job: Make) -> dict[Kind, set[str]]:
    """Files that rows need, by their kind."""
    with sessions.write() as session:
        masked = replace(new_image("a"), mask_sha256=f"{'m':0>64}")
        checked = add_dataset(session, masked)
        session.add(
            training := Training(owner="local", name="t", dataset_id=checked, request_sha256="", settings={}, images=1)
        )
        session.add(fetch := Fetch(owner="local", name="f", repo="lab/sd", revision="0" * 40))
        session.add(Prior(name="own", sha256="o" * 64, native_size=1, multiple=1, size=1, training_id="f" * 32))
        growing = uploads.create(session, "local", "big", 100, DAY)
        session.flush()
    job_id = make_job(1, 2)
    done, held = claim(sessions, 2)
    key = result_key(job_id, done.item_id, done.token, "png")
    with sessions.write() as session:
        assert items.settle(session, done, Result(key, "s" * 64, 1.0, {}, {}))
        session.add(Archive(job_id=job_id))
    with sessions.write() as session:
        building = archives.claim(session, 30)
        waiting = Dataset(owner="local", name="waits")
        session.add(waiting)
        session.flush()
        # It came in pieces, and its sender is still to learn that it is whole.
        session.add(Upload(id=waiting.id, owner="local", name="", size=9, received=9, expires_at=now() + DAY))
    assert building is not None
    digest = masked.sha256
    wanted = {
        Kind.ORIGINALS: [source_key(digest), source_key(f"{'m':0>64}")],
        Kind.PREVIEWS: [preview_key(digest, upright=True), preview_key(digest, upright=False)],
        # Of the second nobody knows yet: whoever made it is about to say so.
        Kind.RESULTS: [key, result_key(job_id, held.item_id, held.token, "jpg")],
        Kind.ARCHIVES: [archive_key(building.id, building.token)],
        Kind.UPLOADS: [upload_key(growing.id), upload_key(waiting.id)],
        Kind.TRAININGS: [training_key(training.id, "work/denoiser/step.pt"), f"trainings/{training.id}/preview.png"],
        Kind.FETCHES: [fetch_key(fetch.id) + ".parts/ab"],
        Kind.PRIORS: [
            f"priors/{fetch.id}/config.json",
            f"priors/{'f' * 32}/unet/config.json",
            f"priors/{training.id}/vae/config.json",
        ],
        Kind.OTHER: ["lost+found/x", "README"],
    }
    return {kind: {write(storage, key) for key in keys} for kind, keys in wanted.items()}


@pytest.fixture
def nobodys(storage: Folder) -> set[str]:
    """What killed processes and rejected uploads leave."""
    unknown = "e" * 64
    keys = {
        source_key(unknown),
        preview_key(unknown, upright=True),
        preview_key("d" * 64, upright=False),
        result_key("1" * 32, 7, "ab" * 8, "png"),
        archive_key("1" * 32, "cd" * 8),
        upload_key("2" * 32),
        training_key("3" * 32, "work/step.pt"),
        f"trainings/{'3' * 32}/preview.png",
        f"priors/{'4' * 32}/unet/config.json",
        fetch_key("5" * 32) + "unet/config.json",
        "probes/0123456789abcdef",
        f"sources/sha256/ee/.{unknown}.0a1b2c3d.part",
        "archives/.x-y.zip.0a1b2c3d.part",
    }
    return {write(storage, key) for key in keys}


def test_every_kind_is_counted(
    sessions: Sessions, storage: Folder, kept: dict[Kind, set[str]], nobodys: set[str]
) -> None:
    found = census(sessions, storage)
    assert {kind: found.files[kind] for kind in kept} == {kind: len(keys) for kind, keys in kept.items()}
    assert (found.files[Kind.STRAYS], found.bytes[Kind.STRAYS]) == (len(nobodys), 10 * len(nobodys))
    assert sum(found.files.values()) == len(stored(storage))
    assert sum(found.strays.values()) == 10 * len(nobodys)
    assert not found.foreign


def test_only_what_is_nobodys_goes(
    sessions: Sessions, storage: Folder, kept: dict[Kind, set[str]], nobodys: set[str]
) -> None:
    with sessions.write() as session:  # while a dataset is checked, no original goes
        session.execute(update(Dataset).where(Dataset.name == "waits").values(state=DatasetState.REJECTED))
    stays = set().union(*kept.values())
    (over,) = set(census(sessions, storage, DAY).strays) & stays
    assert over in kept[Kind.UPLOADS], "it was checked"
    remove(sessions, storage, DAY)
    assert stored(storage) == stays - {over}
    assert census(sessions, storage).files[Kind.STRAYS] == 0


def test_an_original_waits_while_a_dataset_is_checked(sessions: Sessions, storage: Folder, kept: object) -> None:
    key = write(storage, source_key("e" * 64))
    part = write(storage, "archives/.x-y.zip.0a1b2c3d.part")
    remove(sessions, storage, DAY)
    assert storage.exists(key)
    assert not storage.exists(part)
    assert census(sessions, storage).files[Kind.DELETED] == 1, "it is noted once, and told apart from strays"
    remove(sessions, storage, DAY)
    with sessions.read() as session:
        assert session.query(Trash).count() == 1


def test_what_was_written_lately_stays(sessions: Sessions, storage: Folder) -> None:
    young, old = write(storage, upload_key("1" * 32), days=0.5), write(storage, upload_key("2" * 32), days=2)
    assert set(census(sessions, storage, DAY).strays) == {old}
    assert census(sessions, storage, DAY).files[Kind.STRAYS] == 2
    remove(sessions, storage, DAY)
    assert stored(storage) == {young}


def test_the_storage_of_another_database_is_told(sessions: Sessions, storage: Folder, kept: object) -> None:
    for number in range(30):
        write(storage, source_key(f"{number:0>64}"))
    assert census(sessions, storage).foreign


def test_broken_off_writes_do_not_make_a_storage_foreign(sessions: Sessions, storage: Folder) -> None:
    write(storage, "archives/.x-y.zip.0a1b2c3d.part")
    assert not census(sessions, storage).foreign


def test_an_old_archive_goes_and_can_be_ordered_again(sessions: Sessions, storage: Folder, make_job: Make) -> None:
    job_id = make_job(1, 1)
    with sessions.write() as session:
        session.add(Archive(job_id=job_id))
    key = build(sessions, storage)
    with sessions.write() as session:
        assert archives.old(session, DAY) == []
        assert archives.prune(session, DAY) == 0
        session.execute(update(Archive).values(created_at=now() - 2 * DAY))
    with sessions.write() as session:
        (old,) = archives.old(session, DAY)
        assert (old.job_id, old.key, old.size) == (job_id, key, 3)
        assert not archives.rebuild(session, job_id), "it is there"
        assert archives.prune(session, DAY) == 1
    remove(sessions, storage, DAY)
    assert not storage.exists(key)
    with sessions.write() as session:
        row = session.get_one(Archive, job_id)
        assert (row.state, row.key, row.sha256, row.size) == (ArchiveState.PRUNED, None, None, None)
        assert not archives.waiting(session)
        assert archives.rebuild(session, job_id)
        assert archives.old(session, 0) == []
    again = build(sessions, storage)
    assert storage.exists(again)
    with sessions.read() as session:
        assert archives.old(session, DAY) == [], "its age is counted from the new order"


def build(sessions: Sessions, storage: Folder) -> str:
    with sessions.write() as session:
        taken = archives.claim(session, 30)
        assert taken is not None
        key = archive_key(taken.id, taken.token)
        storage.write(key, b"zip")
        assert archives.settle(session, taken, key=key, sha256="z" * 64, size=3)
    return key


def test_a_pruned_archive_goes_with_its_job(sessions: Sessions, storage: Folder, make_job: Make) -> None:
    job_id = make_job(1, 1)
    with sessions.write() as session:
        session.add(Archive(job_id=job_id, state=ArchiveState.PRUNED))
    with sessions.write() as session:
        jobs.delete(session, session.get_one(Job, job_id))
    with sessions.read() as session:
        assert session.get(Archive, job_id) is None


def test_uploads_that_nobody_goes_on_with_are_found_by_their_age(sessions: Sessions) -> None:
    with sessions.write() as session:
        left = uploads.create(session, "local", "left", 100, DAY - 3600).id
        uploads.create(session, "local", "fresh", 100, DAY)
        whole = uploads.create(session, "local", "whole", 100, DAY - 3600)
        whole.received = 100
    with sessions.write() as session:
        assert [each.id for each in uploads.idle(session, 1800, DAY)] == [left]
        assert uploads.prune(session, 7200, DAY) == 0
        assert uploads.prune(session, 1800, DAY) == 1
        assert uploads.idle(session, 0, DAY + 60)[0].size == 0
