"""Storage in a bucket: the functions of `storage.Folder`, with objects."""

import errno
import logging
import shutil
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from shared.copies import Copies
from shared.objects import Objects
from shared.settings import Settings
from shared.states import Wait
from shared.storage import Folder, Storage, Stored

if TYPE_CHECKING:
    from obstore import ObjectMeta

log = logging.getLogger(__name__)

_CHUNK = 2**20
_AT_ONCE = 8
_GOOD_FOR = 5.0
"""Seconds for which a bucket that was found to work is not asked again."""


def make_storage(settings: Settings, *, may_make: bool = True) -> Storage:
    """The storage that the settings name; `may_make` is a Folder's.

    Raises NotConfigured if they name a bucket in a way that cannot be.
    """
    if not settings.in_bucket:
        return Folder(settings.storage_folder, may_make=may_make)
    return Bucket(settings.storage, settings.spool, allow_http=settings.storage_http)


class Bucket:
    """Storage in a bucket, below the path of its URL. What is told of its errors in `Objects` holds here.

    `spool` is a local folder: for uploads while they grow, as no object can, and for copies of what must be files.
    """

    def __init__(self, url: str, spool: Path, *, allow_http: bool = False) -> None:
        self.url = url
        self._objects = Objects(url, allow_http=allow_http)
        self._spool = spool
        self._growing = Folder(spool / "pieces")
        self._copies = Copies(self._objects, spool / "copies")
        self._worked_at = float("-inf")

    def __str__(self) -> str:
        return self.url

    def write(self, key: str, data: bytes) -> None:
        self._objects.put(key, data)

    @contextmanager
    def writing(self, key: str, name: str | None = None) -> Iterator[BinaryIO]:
        attributes = {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}"} if name else {}
        if key.endswith(".zip"):
            attributes["Content-Type"] = "application/zip"
        with self._objects.writing(key, attributes) as file:
            yield file

    @contextmanager
    def together(self) -> Iterator["Together"]:
        with Together(self._objects) as together:
            yield together

    @contextmanager
    def growing(self, key: str) -> Iterator[BinaryIO]:
        with self._growing.growing(key) as file:
            yield file

    def gather(self, key: str) -> None:
        with self._growing.open(key) as grown, self.writing(key) as file:
            shutil.copyfileobj(grown, file, _CHUNK)

    def drop(self, key: str) -> None:
        self._growing.delete(key)

    def drop_older(self, seconds: float) -> None:
        for path in self._growing.root.rglob("*"):
            if path.is_file() and path.stat().st_mtime < time.time() - seconds:
                path.unlink(missing_ok=True)

    def read(self, key: str) -> bytes:
        return self._objects.get(key)

    def open(self, key: str) -> BinaryIO:
        return self._objects.open(key)

    def part(self, key: str, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""
        return self._objects.part(key, start, end)

    def look(self, key: str) -> "ObjectMeta":
        """Size, and when it was stored."""
        return self._objects.look(key)

    def link(self, key: str, seconds: float) -> str:
        """A URL under which anybody can GET `key` for so long."""
        return self._objects.link(key, seconds)

    def trouble(self, min_free: int) -> Wait | None:
        """What keeps new files from being stored: a bucket that cannot be written to or is full, or fewer than
        `min_free` bytes left for the local spool."""
        try:
            if self._objects.failed or time.monotonic() > self._worked_at + _GOOD_FOR:
                self.write("probes/trouble", b"")
                self._objects.failed, self._worked_at = False, time.monotonic()
            free = shutil.disk_usage(next(path for path in (self._spool, *self._spool.parents) if path.is_dir())).free
        except OSError as error:
            log.warning("nothing can be stored: %s", error.strerror)
            return Wait.STORAGE_LOW if error.errno == errno.ENOSPC else Wait.STORAGE_AWAY
        return Wait.STORAGE_LOW if free < min_free else None

    def free(self) -> int | None:
        """Nobody can tell."""
        return None

    def there(self) -> bool:
        return self._objects.there()

    def exists(self, key: str) -> bool:
        return self._objects.exists(key)

    def keys(self, folder: str) -> list[str]:
        """What lies in `folder`, which ends in a slash, and in those in it."""
        return self._objects.keys(folder)

    def files(self) -> Iterator[Stored]:
        return self._objects.files()

    def delete(self, key: str) -> None:
        self.delete_all([key])

    def delete_all(self, keys: Collection[str]) -> None:
        folders = [key for key in keys if key.endswith("/")]
        gone = [key for key in keys if not key.endswith("/")]
        for folder in folders:
            gone += self.keys(folder)
            self._copies.forget(folder)
        if gone:
            self._objects.delete(gone)

    def folder(self, key: str) -> Path:
        return self._copies.folder(key)

    @contextmanager
    def at_hand(self, key: str) -> Iterator[Path]:
        folder = self._copies.fetch(key)
        try:
            yield folder
        finally:
            self._copies.forget(key)

    def keep(self, key: str) -> None:
        self._copies.keep(key)


class Together:
    """Files by their content, stored by several threads at once; see `Folder.together`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._pool = ThreadPoolExecutor(_AT_ONCE, "store")
        self._room = BoundedSemaphore(2 * _AT_ONCE)
        self._failed: BaseException | None = None

    def store(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, unless something is there; soon. Raises what storing another has raised."""
        if self._failed is not None:
            raise self._failed
        self._room.acquire()
        self._pool.submit(self._objects.create, key, data).add_done_callback(self._done)

    def _done(self, stored: "Future[None]") -> None:
        self._failed = self._failed or stored.exception()
        self._room.release()

    def __enter__(self) -> "Together":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None and self._failed is not None:
            raise self._failed
