"""Stored bytes: originals, new images, archives. They lie in a local `Folder`, or in a `shared.bucket.Bucket`.

Keys are made of ids and hashes, never of a user's file names.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from shared.disk import sync
from shared.errors import Locked
from shared.states import Wait

SOURCES = "sources/sha256/"
"""Where originals lie, by their content, so that the same file is stored once."""


def source_key(sha256: str) -> str:
    return f"{SOURCES}{sha256[:2]}/{sha256}"


def preview_key(sha256: str, *, upright: bool) -> str:
    """Where the small picture of an original lies: beside it, and it goes with it."""
    return source_key(sha256) + (".preview" if upright else ".stored.preview")


def upload_key(dataset_id: str) -> str:
    return f"uploads/{dataset_id}.zip"


def result_key(job_id: str, item_id: int, token: str, extension: str) -> str:
    """Where a new image lies. The claim's token is part of it: a worker that lost its claim overwrites nothing."""
    return f"jobs/{job_id}/items/{item_id}-{token}.{extension}"


def training_key(training_id: str, what: str = "") -> str:
    """Where what a training keeps lies, a folder; `what` names something in it."""
    return f"trainings/{training_id}/{what}"


def fetch_key(fetch_id: str) -> str:
    """Where what was fetched of a prior lies until all of it is there, a folder."""
    return f"fetches/{fetch_id}/"


def prior_key(made_by: str) -> str:
    """Where the prior that a training, or a fetch, has made lies, a folder."""
    return f"priors/{made_by}/"


def archive_key(job_id: str, token: str) -> str:
    return f"archives/{job_id}-{token}.zip"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is stored, whole or not: its bytes, and for how many seconds nobody has written to it."""

    key: str
    size: int
    age: float


def check_key(key: str) -> str:
    """The key, if it leads nowhere else. Raises ValueError."""
    parts = PurePosixPath(key).parts
    if not parts or ".." in parts or PurePosixPath(key).is_absolute():
        raise ValueError(f"not a storage key: {key!r}")
    return key


class StorageAway(OSError):
    """The storage does not answer, or not as it should; nothing is known of the key. It may be tried again."""


class Storing(Protocol):
    """Takes many files, from several threads at once."""

    def store(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, unless something is there."""


class Storage(Protocol):
    """What is done with stored bytes; `Folder` says what each function does.

    All raise FileNotFoundError where a key is not there, and other kinds of OSError where the storage itself is not.
    """

    def write(self, key: str, data: bytes) -> None: ...
    def writing(self, key: str, name: str | None = None) -> AbstractContextManager[BinaryIO]: ...
    def together(self) -> AbstractContextManager[Storing]: ...
    def growing(self, key: str) -> AbstractContextManager[BinaryIO]: ...
    def gather(self, key: str) -> None: ...
    def drop(self, key: str) -> None: ...
    def drop_older(self, seconds: float) -> None: ...
    def read(self, key: str) -> bytes: ...
    def open(self, key: str) -> BinaryIO: ...
    def trouble(self, min_free: int) -> Wait | None: ...
    def free(self) -> int | None: ...
    def there(self) -> bool: ...
    def exists(self, key: str) -> bool: ...
    def files(self) -> Iterator[Stored]: ...
    def delete(self, key: str) -> None: ...
    def delete_all(self, keys: Collection[str]) -> None: ...
    def folder(self, key: str) -> Path: ...
    def at_hand(self, key: str) -> AbstractContextManager[Path]: ...
    def keep(self, key: str) -> None: ...


class Folder:
    """Storage in a local folder (mode 0700). A key that exists is whole: writes go to a temporary file first. Only what
    is `growing` is not, and nobody looks at it before a row says that it is whole.

    The folder is made when it is first used, unless `may_make` forbids it, and not again: later its absence means that
    a share is away, and an empty folder in its place would look as if every file were lost.
    """

    def __init__(self, root: Path, *, may_make: bool = True) -> None:
        self.root = root
        self._may_make = may_make

    def __str__(self) -> str:
        return str(self.root)

    def write(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, atomically and durably, replacing what was there."""
        with self.writing(key) as file:
            file.write(data)

    @contextmanager
    def writing(self, key: str, name: str | None = None) -> Iterator[BinaryIO]:  # noqa: ARG002
        """A file that becomes `key` when the block ends, and is thrown away if it raises. `name` is what it is saved as
        by who fetches it without our doing, which only a bucket allows."""
        path = self.path_to_write(key)
        temporary = _beside(path)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    @contextmanager
    def together(self) -> Iterator["Together"]:
        """Store many files and wait for the disk a few times only. All are there and stay when the block has ended; if
        it raises, some may be."""
        together = Together(self)
        try:
            yield together
            together.finish()
        finally:
            together.forget()

    @contextmanager
    def growing(self, key: str) -> Iterator[BinaryIO]:
        """The file of `key` itself, without a buffer, to be added to by one process at a time. It is made where it is
        missing, and taken away again if nothing was written to it. What was written counts once `os.fsync` was called.

        Raises:
            Locked: somebody else has it.
        """
        path = self.path_to_write(key)
        new = not path.exists()
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
            try:
                # Of the file and not of a row: it ends with the process that has it.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Locked("Another request is adding to it.") from None
            if not os.fstat(file.fileno()).st_nlink:
                raise Locked("Another request has just taken it away.")
            if new:
                _sync_folder(path.parent)
            try:
                yield file
            finally:
                state = os.fstat(file.fileno())
                if state.st_nlink and not state.st_size:
                    path.unlink()

    def gather(self, key: str) -> None:
        """What grew is whole: bring it where workers look for it. Here it has always been there."""

    def drop(self, key: str) -> None:
        """Take away what grew, unless it lies where workers look for it."""

    def drop_older(self, seconds: float) -> None:
        """The same with all to which nothing was added for so long."""

    def read(self, key: str) -> bytes:
        return self.path(key).read_bytes()

    def open(self, key: str) -> BinaryIO:
        return self.path(key).open("rb")

    def trouble(self, min_free: int) -> Wait | None:
        """What keeps new files from being stored: fewer than `min_free` bytes left, or no folder to write to."""
        probe = self.path(f"probes/{secrets.token_hex(8)}")
        try:
            self._make_root()
            probe.parent.mkdir(exist_ok=True)
            probe.touch()
            probe.unlink()
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            return Wait.STORAGE_LOW if error.errno in (errno.ENOSPC, errno.EDQUOT) else Wait.STORAGE_AWAY
        return Wait.STORAGE_LOW if free < min_free else None

    def free(self) -> int | None:
        """Bytes left for new files; None where nobody can tell."""
        root = next((each for each in (self.root, *self.root.parents) if each.is_dir()), None)
        return shutil.disk_usage(root).free if root else None

    def there(self) -> bool:
        """Whether the folder itself is there: a share that is not mounted is not."""
        return self.root.is_dir()

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def files(self) -> Iterator[Stored]:
        """All that is stored, half-written files too, in no particular order."""
        folders = [self.root] if self.there() else []
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                        continue
                    try:
                        state = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # gone since the folder was read
                        continue
                    key = Path(entry.path).relative_to(self.root).as_posix()
                    yield Stored(key, state.st_size, max(0.0, time.time() - state.st_mtime))

    def delete(self, key: str) -> None:
        """Remove `key`, or all that lies in it if it ends in a slash; nothing happens if it is not there."""
        if not key.endswith("/"):
            self.path(key).unlink(missing_ok=True)
        elif self.path(key).is_dir():
            shutil.rmtree(self.path(key))

    def delete_all(self, keys: Collection[str]) -> None:
        """Remove many."""
        for key in keys:
            self.delete(key)

    def folder(self, key: str) -> Path:
        """The local folder of what lies in `key`, which ends in a slash and never changes once it is whole. It is not
        there where `keep` has not been called, by anybody, with all that belongs in it."""
        return self.path(key)

    @contextmanager
    def at_hand(self, key: str) -> Iterator[Path]:
        """A local folder of what lies in `key`, to work in; what changes there counts once `keep` was called."""
        yield self.path(key)

    def keep(self, key: str) -> None:
        """Store what lies in the local folder of `key`."""

    def path(self, key: str) -> Path:
        """The file behind `key`."""
        return self.root / check_key(key)

    def path_to_write(self, key: str) -> Path:
        """The same, in a folder that is there."""
        path = self.path(key)
        self._make_root()
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _make_root(self) -> None:
        if self._may_make:
            # Nobody else may enter it, so what lies below needs no care of its own.
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(exist_ok=True, mode=0o700)
            self._may_make = False
        elif not self.there():
            raise FileNotFoundError(errno.ENOENT, "the storage folder is not there", str(self.root))


class Together:
    """Files by their content, stored by several threads at once; see `Folder.together`.

    A file gets its name when its bytes are on the disk, and the names are on the disk when all is finished. A file
    that was there already counts too: whoever stored it may not be so far.
    """

    _AT_ONCE = 64

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._written: list[tuple[Path, Path]] = []
        self._parents: set[Path] = set()

    def store(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, unless something is there."""
        path = self._folder.path_to_write(key)
        with self._lock:
            self._parents.add(path.parent)
        if path.is_file():
            return
        temporary = _beside(path)
        try:
            temporary.write_bytes(data)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        with self._lock:
            self._written.append((temporary, path))
        self._land(self._AT_ONCE)

    def finish(self) -> None:
        """To be called when no thread stores any more."""
        self._land(1)
        for parent in self._parents:
            _sync_folder(parent)

    def forget(self) -> None:
        """Throw away what has no name yet."""
        for temporary, _ in self._written:
            temporary.unlink(missing_ok=True)

    def _land(self, at_least: int) -> None:
        with self._lock:
            if len(self._written) < at_least:
                return
            written, self._written = self._written, []
        try:
            for temporary, path in written:
                sync(temporary)
                temporary.replace(path)
        except BaseException:
            with self._lock:
                self._written += written
            raise


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _sync_folder(folder: Path) -> None:
    # Without this a rename may be lost with the power.
    sync(folder)
