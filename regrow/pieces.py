"""An upload that survives interruptions: of the connection, of the process, and of the server (tus 1.0)."""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import httpx

from regrow.errors import ProblemError, Unreachable
from regrow.wire import STORING_SECONDS, Pauses, Wire, foreign, parsed

LARGE = 32 * 2**20
"""Bytes from which on a file is sent in pieces."""

_PIECE = 64 * 2**20  # of one request: proxies let no body of any size through
_CHUNK = 2**18
_ENDS = 8 * 2**20
_PATIENCE = 60.0  # seconds without a new byte
_LATER = frozenset({409, 423, 429, 502, 503, 504})
_LOST = frozenset({404, 410})


def send(
    wire: Wire, path: Path, fields: Mapping[str, str], on_progress: Callable[[int, int], None] | None = None
) -> str:
    """Send a file; returns the path of the dataset that the server made of it. `fields` are those of the form,
    and the `filename`.

    Goes on with what an earlier call, from wherever, has sent of the same file with the same fields.
    """
    with path.open("rb") as file:
        sending = _Sending(wire, file, on_progress or (lambda *_: None))
        metadata = {**fields, "fingerprint": _fingerprint(file, fields)}
        earlier = _unfinished(wire, metadata["fingerprint"])
        if earlier is not None:
            try:
                return sending.to(earlier)
            except ProblemError as error:
                if error.status not in _LOST:
                    raise
        return sending.to(_announced(wire, sending.size, metadata))


class _Sending:
    def __init__(self, wire: Wire, file: BinaryIO, on_progress: Callable[[int, int], None]) -> None:
        self._wire, self._file, self._on_progress = wire, file, on_progress
        self.size = os.fstat(file.fileno()).st_size

    def to(self, at: str) -> str:
        """Send what is missing of the upload at `at`; returns the dataset's path."""
        pauses, offset, furthest = Pauses(_PATIENCE), None, -1
        while True:
            try:
                # Whoever does not know how far it came asks.
                answer = self._wire.tus("HEAD", at) if offset is None else self._piece(at, offset)
            except (Unreachable, ProblemError) as error:
                if (isinstance(error, ProblemError) and error.status not in _LATER) or not pauses.wait():
                    raise
                offset = None
                continue
            if "Upload-Offset" not in answer.headers:
                raise foreign(answer)
            offset = int(answer.headers["Upload-Offset"])
            self._on_progress(offset, self.size)
            if "Regrow-Dataset" in answer.headers:
                return answer.headers["Regrow-Dataset"]
            if offset > furthest:
                pauses, furthest = Pauses(_PATIENCE), offset

    def _piece(self, at: str, offset: int) -> httpx.Response:
        length = min(_PIECE, self.size - offset)
        headers = {
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(length),
        }
        last = offset + length == self.size
        timeout = STORING_SECONDS if last else None
        return self._wire.tus("PATCH", at, headers, self._bytes(offset, length), read_timeout=timeout)

    def _bytes(self, offset: int, length: int) -> Iterator[bytes]:
        self._file.seek(offset)
        end = offset + length
        while offset < end and (chunk := self._file.read(min(_CHUNK, end - offset))):
            yield chunk
            offset += len(chunk)
            self._on_progress(offset, self.size)


def _announced(wire: Wire, size: int, metadata: dict[str, str]) -> str:
    """Where the file is to be sent."""
    pairs = (f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in metadata.items())
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size), "Upload-Metadata": ",".join(pairs)}
    # One that is announced twice does no harm: it expires.
    return wire.post_once("/v1/uploads", headers=headers).headers["Location"]


def _unfinished(wire: Wire, fingerprint: str) -> str | None:
    """Where a part of the file has been sent already."""
    cursor = ""
    while True:
        page = parsed(wire.get(f"/v1/uploads?limit=200{cursor}"))
        for found in page["items"]:
            if found["dataset"] is None and found["metadata"].get("fingerprint") == fingerprint:
                return f"/v1/uploads/{found['id']}"
        if page["next"] is None:
            return None
        cursor = f"&cursor={page['next']}"


def _fingerprint(file: BinaryIO, fields: Mapping[str, str]) -> str:
    """What tells a zip from others: it ends in its table of contents, with a checksum of each member. Its times do not
    count: a folder is zipped anew for each call."""
    size = os.fstat(file.fileno()).st_size
    found = hashlib.sha256(f"{size} {sorted(fields.items())}".encode())
    for start in (0, max(0, size - _ENDS)):
        file.seek(start)
        found.update(file.read(_ENDS))
    return found.hexdigest()
