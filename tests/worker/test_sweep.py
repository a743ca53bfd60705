"""What the sweep leaves alone."""

import os
import time

import pytest
from sqlalchemy import select

from shared.db import Sessions
from shared.models import Trash
from shared.storage import Folder, source_key
from worker.sweep import sweep, tidy


def test_deleted_files_are_remembered_while_the_storage_is_away(local: Sessions, storage: Folder) -> None:
    storage.write("jobs/1/items/1-a.png", b"to go")
    with local.write() as session:
        session.add(Trash(key="jobs/1/items/1-a.png"))
    away = storage.root.rename(storage.root.with_name("away"))
    sweep(local, storage)
    away.rename(storage.root)
    assert storage.exists("jobs/1/items/1-a.png")
    sweep(local, storage)
    assert not storage.exists("jobs/1/items/1-a.png")
    with local.read() as session:
        assert session.scalars(select(Trash)).all() == []


def test_what_a_killed_process_left_is_removed_after_its_time(local: Sessions, storage: Folder) -> None:
    old = time.time() - 7200
    for key in ("archives/.a-b.zip.0a1b2c3d.part", "archives/.c-d.zip.0a1b2c3d.part"):
        storage.write(key, b"half")
    os.utime(storage.path("archives/.a-b.zip.0a1b2c3d.part"), (old, old))
    assert tidy(local, storage, 3600) == 1
    sweep(local, storage)
    assert [each.key for each in storage.files()] == ["archives/.c-d.zip.0a1b2c3d.part"]


def test_nothing_is_tidied_up_where_the_database_knows_nothing_of_what_is_stored(
    local: Sessions, storage: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    storage.write(source_key("a" * 64), b"an original of another database")
    assert tidy(local, storage, 0) == 0
    sweep(local, storage)
    assert storage.exists(source_key("a" * 64))
    assert "Is it the right one?" in caplog.text
