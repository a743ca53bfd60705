"""A key is whole or not there."""

import os
from pathlib import Path

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


def test_what_is_stored_together_is_there_when_the_block_ends_and_only_once(storage: Folder) -> None:
    storage.write("a/0", b"first")
    with storage.together() as together:
        for number in range(200):
            together.store(f"{'ab'[number % 2]}/{number}", b"%d" % number)
    assert storage.read("a/0") == b"first"
    assert all(storage.read(f"{'ab'[n % 2]}/{n}") == b"%d" % n for n in range(1, 200))
    assert not list(storage.root.rglob("*.part"))


def test_files_have_their_names_only_once_their_bytes_are_on_the_disk(
    storage: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    storage.write("c/old", b"")
    synced.clear()
    with storage.together() as together:
        together.store("c/old", b"another may have stored it a moment ago")
        for number in range(100):
            together.store(f"a/{number}", b"x")
            named = {path.name for path in (storage.root / "a").iterdir() if path.suffix != ".part"}
            assert named <= {Path(path).name.split(".")[1] for path in synced if path.endswith(".part")}
    files = [path for path in synced if path.endswith(".part")]
    assert len(files) == 100
    assert sorted(synced[-2:]) == [str(storage.root / "a"), str(storage.root / "c")]
    assert len(synced) == 102


def test_what_is_stored_together_leaves_no_rubbish_when_it_breaks_off(storage: Folder) -> None:
    def interrupted() -> None:
        with storage.together() as together:
            together.store("a/1", b"x")
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="power"):
        interrupted()
    assert not list((storage.root / "a").iterdir())
