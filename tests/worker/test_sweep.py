"""What the sweep leaves alone."""

from sqlalchemy import select

from shared.db import Sessions
from shared.models import Trash
from shared.storage import Folder
from worker.sweep import sweep


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
