"""A key is whole or not there."""

import pytest

from shared.storage import Folder


def test_what_was_written_is_read(storage: Folder) -> None:
    storage.write("a/b.bin", b"one")
    storage.write("a/b.bin", b"two")
    assert storage.read("a/b.bin") == b"two"
    storage.delete("a/b.bin")
    storage.delete("a/b.bin")
    assert not storage.exists("a/b.bin")


def test_a_write_that_breaks_off_leaves_what_was_there_and_no_rubbish(storage: Folder) -> None:
    def interrupted() -> None:
        with storage.writing("a/b.bin") as file:
            file.write(b"new, but")
            raise RuntimeError("the power went")

    storage.write("a/b.bin", b"old")
    with pytest.raises(RuntimeError, match="power"):
        interrupted()
    assert storage.read("a/b.bin") == b"old"
    assert [path.name for path in (storage.root / "a").iterdir()] == ["b.bin"]


@pytest.mark.parametrize("key", ["../a", "a/../../b", "/etc/passwd", ""])
def test_no_key_leads_out_of_the_folder(storage: Folder, key: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        storage.write(key, b"")


def test_nobody_else_may_enter_it(storage: Folder) -> None:
    storage.write("a/b/c.bin", b"")
    assert storage.root.stat().st_mode & 0o777 == 0o700
