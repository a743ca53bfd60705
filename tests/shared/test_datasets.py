"""The life of a dataset, and of stored files that nobody needs any more."""

import errno

import pytest
from rows import Make, add_dataset, claim, new_image, result, settle
from sqlalchemy import select, update

from shared import datasets, jobs, leases, trash
from shared.datasets import Contents
from shared.db import Sessions, now
from shared.models import Dataset, Job, Trash
from shared.storage import Folder, source_key


def test_a_dataset_whose_check_ends_every_worker_is_rejected(sessions: Sessions) -> None:
    with sessions.write() as session:
        dataset = Dataset(owner="local", name="set")
        session.add(dataset)
    for _ in range(leases.MAX_LAPSES + 1):
        with sessions.write() as session:
            assert datasets.claim(session, 30) is not None
            assert datasets.claim(session, 30) is None
            session.execute(update(Dataset).values(lease_until=now() - 1))
    with sessions.write() as session:
        assert datasets.sweep(session) == 1
        assert session.get_one(Dataset, dataset.id).state == "rejected"


def store(storage: Folder, *names: str) -> None:
    for name in names:
        storage.write(source_key(f"{name:0>64}"), b"x")


def stored(storage: Folder) -> set[str]:
    return {path.name.lstrip("0") for path in storage.root.glob("sources/sha256/*/*")}


def empty(sessions: Sessions, storage: Folder) -> None:
    with sessions.write() as session:
        trash.empty(session, storage)


def test_originals_go_with_the_last_dataset_that_has_them(sessions: Sessions, storage: Folder) -> None:
    store(storage, "1", "2", "3")
    with sessions.write() as session:
        first = add_dataset(session, new_image("1"), new_image("2"))
        second = add_dataset(session, new_image("2"), new_image("3"))
    with sessions.write() as session:
        jobs.delete_dataset(session, "local", first)
    empty(sessions, storage)
    assert stored(storage) == {"2", "3"}
    with sessions.write() as session:
        jobs.delete_dataset(session, "local", second)
    empty(sessions, storage)
    assert stored(storage) == set()
    with sessions.read() as session:
        assert session.scalars(select(Trash.key)).all() == []


def test_no_original_goes_while_a_dataset_is_checked_that_may_have_found_it(
    sessions: Sessions, storage: Folder
) -> None:
    store(storage, "1")
    with sessions.write() as session:
        old = add_dataset(session, new_image("1"))
        session.add(Dataset(owner="local", name="new"))
        session.flush()
        claimed = datasets.claim(session, 30)
        assert claimed is not None
        jobs.delete_dataset(session, "local", old)
    empty(sessions, storage)
    assert stored(storage) == {"1"}
    with sessions.write() as session:
        contents = Contents("yolo", "images/{split}", None, ("a",), ("train",), (), 255, [new_image("1")])
        assert datasets.accept(session, claimed, contents)
    empty(sessions, storage)
    assert stored(storage) == {"1"}, "the new dataset has it now"


def test_a_file_that_another_job_took_over_stays_until_that_one_goes(
    sessions: Sessions, storage: Folder, make_job: Make
) -> None:
    first = make_job(1, 1)
    (work,) = claim(sessions)
    storage.write(result(work).key, b"x")
    assert settle(sessions, work)
    second = make_job(1, 1, reuse=True)
    for job_id, left in ((first, True), (second, False)):
        with sessions.write() as session:
            jobs.delete(session, session.get_one(Job, job_id))
        empty(sessions, storage)
        assert storage.exists(result(work).key) is left


def test_deleted_files_wait_for_a_storage_that_is_away(sessions: Sessions, storage: Folder) -> None:
    class Away(Folder):
        def delete(self, key: str) -> None:
            raise OSError(errno.ESTALE, "Stale file handle")

    store(storage, "1")
    with sessions.write() as session:
        jobs.delete_dataset(session, "local", add_dataset(session, new_image("1")))
    with pytest.raises(OSError, match="Stale"):
        empty(sessions, Away(storage.root))
    empty(sessions, storage)
    assert stored(storage) == set()
