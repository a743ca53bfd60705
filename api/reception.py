"""A piece of an upload on its way from the network to the disk, at no more than a megabyte of memory."""

import errno
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from anyio import CancelScope, Event, move_on_after
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from api.trail import Trail
from shared import uploads
from shared.audit import Action
from shared.db import Sessions
from shared.errors import ChecksumMismatch, Gone, Locked, TooLarge
from shared.storage import Storage
from shared.uploads import Growing

if TYPE_CHECKING:
    from hashlib import _Hash

_PIECE = 2**20
_KEEP_EVERY = 16 * 2**20
"""Bytes after which what came is written down: what a crash can cost."""
_SILENCE = 60.0
"""Seconds without a byte after which a connection counts as broken."""


class RightOfWay:
    """Lets one request at a time add to an upload. The newest has the right of way: a sender who comes again has lost
    the connection it had before, though the other end of that may not know yet."""

    def __init__(self) -> None:
        self._under_way: dict[str, tuple[CancelScope, Event]] = {}

    @asynccontextmanager
    async def alone(self, upload_id: str) -> AsyncIterator[None]:
        """The block is left early, with Locked, when another request comes for the same upload."""
        while upload_id in self._under_way:
            other, over = self._under_way[upload_id]
            other.cancel()
            await over.wait()
        scope, over = CancelScope(), Event()
        self._under_way[upload_id] = scope, over
        try:
            with scope:
                yield
        finally:
            del self._under_way[upload_id]
            over.set()
        if scope.cancelled_caught:
            raise Locked("Another request goes on with this upload.")


@dataclass
class Reception:
    """Adds to an upload. What `keep` has noted is stored and stays; what came after that is written over next time."""

    sessions: Sessions
    storage: Storage
    trail: Trail
    expires: float
    file: BinaryIO
    upload: Growing
    """As the database has it."""
    checksum: tuple["_Hash", bytes] | None
    written: int = field(init=False)

    def __post_init__(self) -> None:
        self.written = self.upload.received

    def add(self, data: bytes) -> None:
        """Write what came. Raises TooLarge if it is more than was announced."""
        if self.written + len(data) > self.upload.size:
            raise TooLarge(f"More came than the {self.upload.size:,} bytes that were announced.")
        left = memoryview(data)
        with _room():
            while left:
                left = left[self.file.write(left) :]
        self.written += len(data)
        if self.checksum is not None:
            self.checksum[0].update(data)
        elif self.written - self.upload.received >= _KEEP_EVERY and self.written < self.upload.size:
            self.keep()

    def finish(self) -> float:
        """Keep the piece, if it is what was announced; returns when the upload expires."""
        if self.checksum is not None and self.checksum[0].digest() != self.checksum[1]:
            raise ChecksumMismatch("The piece does not have the checksum it was sent with. Nothing of it was kept.")
        return self.keep()

    def keep(self) -> float:
        with _room():
            os.fsync(self.file.fileno())
            if self.written == self.upload.size:
                self.storage.gather(self.upload.key)
        with self.sessions.write() as session:
            expires_at = uploads.keep(session, self.upload, self.written, self.expires)
            if self.written == self.upload.size:
                self.trail.note(session, Action.UPLOADED, f"/v1/datasets/{self.upload.id}")
        self.upload = replace(self.upload, received=self.written)
        return expires_at


@contextmanager
def _room() -> Iterator[None]:
    """Says so where the disk has no room, or the file may not be so large."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise HTTPException(507, "There is no space for more. What was kept before stays: go on later.") from None


@contextmanager
def receiving(
    sessions: Sessions,
    storage: Storage,
    trail: Trail,
    upload: Growing,
    checksum: tuple["_Hash", bytes] | None,
    expires: float,
) -> Iterator[Reception]:
    """A reception at the end of an upload."""
    with storage.growing(upload.key) as file:
        with sessions.read() as session:
            # Only now does nobody else add to it.
            upload = uploads.growing(session, upload.owner, upload.id, upload.received)
        if os.fstat(file.fileno()).st_size < upload.received:
            raise Gone(f"Of upload {upload.id} bytes were lost. Begin anew.")
        file.truncate(upload.received)
        file.seek(upload.received)
        yield Reception(sessions, storage, trail, expires, file, upload, checksum)


async def pieces(request: Request) -> AsyncGenerator[bytes]:
    """The body in pieces of about a megabyte. It ends as well where the connection breaks or falls silent: what came is
    worth keeping."""
    body, collected = request.stream(), bytearray()
    while True:
        chunk = None
        with move_on_after(_SILENCE):
            try:
                chunk = await anext(body, None)
            except ClientDisconnect:
                chunk = None
        if chunk is None:
            break
        collected += chunk
        if len(collected) >= _PIECE:
            yield bytes(collected)
            collected.clear()
    if collected:
        yield bytes(collected)
