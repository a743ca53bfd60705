"""The objects of a bucket of S3, Google Cloud or Azure, or of what speaks as they do, by obstore.

Endpoint and credentials are taken from the environment, under the names that each provider's own tools use.
"""

import errno
import io
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from shared.errors import NotConfigured
from shared.settings import BUCKETS
from shared.storage import StorageAway, Stored, check_key

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import ObjectMeta, WritableFile

_PART, _PARTS_AT_ONCE = 16 * 2**20, 3
"""Bytes of a part, and how many are under way: what an archive takes of memory. No object has more than 10,000."""
_READ_AHEAD = 2**20
_PATIENCE = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
}
_FULL = re.compile(r"StorageFull|QuotaExceeded|InsufficientStorage|507 ")


class Objects:
    """The objects below the path of a bucket's URL.

    Each function raises ValueError of what is no key, FileNotFoundError where a key is not there, and StorageAway where
    nothing can be said: the message names the bucket and the reason.
    """

    def __init__(self, url: str, *, allow_http: bool = False) -> None:
        self.url = url
        self.failed = False
        """Whether something was found to be wrong with the bucket; who asks it again resets it."""
        options = {"allow_http": allow_http, "connect_timeout": "5s", "timeout": "120s"}
        try:
            store = from_url(url, client_options=options, retry_config=_PATIENCE)  # type: ignore[call-overload]
        except BaseError as error:
            raise NotConfigured(f"REGROW_STORAGE={url} cannot be used: {_in_words(error)}") from None
        if not isinstance(store, S3Store | GCSStore | AzureStore):
            raise NotConfigured(f"REGROW_STORAGE={url} is no bucket: it begins with one of {', '.join(BUCKETS)}.")
        self._store: S3Store | GCSStore | AzureStore = store

    def put(self, key: str, data: bytes) -> None:
        """Store `data`, whole or not at all, replacing what was there."""
        with self.speaking(key, writing=True):
            obstore.put(self._store, key, data, use_multipart=False)

    def create(self, key: str, data: bytes) -> None:
        """The same, unless something is there."""
        with self.speaking(key, writing=True), suppress(AlreadyExistsError):
            obstore.put(self._store, key, data, mode="create")

    @contextmanager
    def writing(self, key: str, attributes: Mapping[str, str]) -> Iterator[BinaryIO]:
        """A file that becomes `key` when the block ends, and nothing if it raises. It goes up in parts meanwhile."""
        with self.speaking(key, writing=True):
            upload = obstore.open_writer(
                self._store, key, attributes=dict(attributes), buffer_size=_PART, max_concurrency=_PARTS_AT_ONCE
            )
        try:
            yield cast(BinaryIO, _Writer(self, upload, key))
        except BaseException as error:
            # The parts go, if the bucket can be told.
            with suppress(BaseError, OSError):
                upload.__exit__(type(error), error, error.__traceback__)
            raise
        with self.speaking(key, writing=True):
            upload.close()

    def get(self, key: str) -> bytes:
        with self.speaking(key):
            return bytes(obstore.get(self._store, key).bytes())

    def part(self, key: str, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, by one request."""
        with self.speaking(key):
            return bytes(obstore.get_range(self._store, key, start=start, end=end)) if start < end else b""

    def open(self, key: str) -> BinaryIO:
        """To be read where one likes, by requests for a megabyte or more."""
        return io.BufferedReader(_Reader(self, key, self.look(key)["size"]), _READ_AHEAD)

    def look(self, key: str) -> "ObjectMeta":
        """Size, and when it was stored."""
        with self.speaking(key):
            return obstore.head(self._store, key)

    def exists(self, key: str) -> bool:
        try:
            self.look(key)
        except FileNotFoundError:
            return False
        return True

    def keys(self, folder: str) -> list[str]:
        """What lies in `folder`, which ends in a slash, and in those in it."""
        with self.speaking(folder):
            return [found["path"] for chunk in obstore.list(self._store, folder.rstrip("/")) for found in chunk]

    def files(self) -> Iterator[Stored]:
        """All objects; their age is told by this machine's clock."""
        with self.speaking("."):
            for some in obstore.list(self._store):
                for each in some:
                    age = max(0.0, time.time() - each["last_modified"].timestamp())
                    yield Stored(each["path"], each["size"], age)

    def delete(self, keys: list[str]) -> None:
        """Remove some; those that are not there are none the worse for it."""
        with self.speaking(keys[0] if keys else "."):
            try:
                obstore.delete(self._store, keys)
            except FileNotFoundError:
                # Not S3, which does not mind; the others stop at the first that is not there.
                for key in keys:
                    with suppress(FileNotFoundError):
                        obstore.delete(self._store, key)

    def there(self) -> bool:
        """Whether the bucket answers."""
        try:
            with self.speaking("."):
                obstore.list_with_delimiter(self._store)
        except StorageAway:
            return False
        return True

    def link(self, key: str, seconds: float) -> str:
        """A URL under which anybody can GET `key` for so long."""
        with self.speaking(key):
            return obstore.sign(self._store, "GET", key, timedelta(seconds=seconds))

    @contextmanager
    def speaking(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Checks the key, and turns what obstore raises into the errors of the class."""
        if key != ".":
            check_key(key)
        try:
            yield
        except (BaseError, OSError) as error:
            # A key that is to be written is never missed: the bucket is.
            if isinstance(error, FileNotFoundError) and not writing:
                raise FileNotFoundError(errno.ENOENT, "it is not in the bucket", key) from None
            self.failed = True
            kind = errno.ENOSPC if _FULL.search(str(error)) else errno.EIO
            raise StorageAway(kind, f"the bucket {self.url} cannot be used: {_in_words(error)}", key) from None


class _Writer:
    """A file that is only written to, and by one thread."""

    def __init__(self, objects: Objects, upload: "WritableFile", key: str) -> None:
        self._objects, self._upload, self._key = objects, upload, key

    def write(self, data: bytes) -> int:
        with self._objects.speaking(self._key, writing=True):
            return self._upload.write(data)


class _Reader(io.RawIOBase):
    """A file that is read where one likes, of `size` bytes."""

    def __init__(self, objects: Objects, key: str, size: int) -> None:
        self._objects, self._key, self._size = objects, key, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, into: "WriteableBuffer", /) -> int:
        view = memoryview(into)
        data = self._objects.part(self._key, self._at, min(self._at + len(view), self._size))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def _in_words(error: Exception) -> str:
    """What obstore says, without what only its developers read."""
    said = str(error).partition("\n\nDebug source")[0]
    status = re.search(r"non-2xx status code: (\d+ [A-Za-z ]+)", said)
    code = re.search(r"<Code>(\w+)</Code>", said)
    if status:
        return f"it answers {status[1].strip()}" + (f" ({code[1]})" if code else "")
    if "169.254.169.254" in said or "metadata.google" in said:
        return "no credentials are set in the environment"
    if "HTTP error: builder error" in said:
        return "its endpoint is no URL, or plain http, which REGROW_STORAGE_HTTP=true would allow"
    return " ".join(said.split())[:300]
