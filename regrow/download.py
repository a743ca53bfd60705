"""A download that survives interruptions: of the connection, and of the process."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import httpx

from regrow.errors import Damaged, Unreachable
from regrow.wire import Pauses, Wire

OnProgress = Callable[[int, int], None]

_PATIENCE = 60.0  # seconds without a new byte


def download(wire: Wire, url: str, path: Path, on_progress: OnProgress | None = None) -> Path:
    """Fetch `url`, whose ETag must be the SHA-256 of its bytes, and put it at `path` when it is whole and right.

    What has come so far lies beside `path`, under a name with the hash in it, so that it is never continued with
    the bytes of another archive.

    Raises:
        Damaged: the hash is not that of the bytes.
    """
    sha256, size = _announced(wire, url)
    part = path.with_name(f".{path.name}.{sha256[:16]}.part")
    pauses, have = Pauses(_PATIENCE), _size(part)
    while have < size:
        before = have
        try:
            _fetch(wire, url, part, sha256, lambda done: on_progress(done, size) if on_progress else None)
        except Unreachable:
            have = _size(part)
            if have > before:
                pauses = Pauses(_PATIENCE)
            if not pauses.wait():
                raise
        have = _size(part)
    _take(part, sha256, path)
    return path


def download_unsized(wire: Wire, url: str, path: Path, on_progress: OnProgress | None = None) -> Path:
    """Fetch what the server makes while it sends it, of a size and a hash that nobody knows before.

    It is at `path` when it is whole; broken off, it has to be begun anew. `on_progress` is told 0 for the bytes there
    are.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with wire.stream(url, {}) as response, part.open("wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                if on_progress:
                    on_progress(file.tell(), 0)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _announced(wire: Wire, url: str) -> tuple[str, int]:
    """The SHA-256 and the size of what lies at `url`."""
    # One byte is asked for, and not HEAD, whose error answers have no words.
    with wire.stream(url, {"Range": "bytes=0-0"}) as response:
        whole = response.headers.get("Content-Range", "").rpartition("/")[2] or response.headers["Content-Length"]
        return response.headers["ETag"].strip('"'), int(whole)


def _fetch(wire: Wire, url: str, part: Path, sha256: str, on_bytes: Callable[[int], None]) -> None:
    """Add to `part` what is missing of it, or begin anew where the server has something else now."""
    have = _size(part)
    headers = {"Range": f"bytes={have}-", "If-Range": f'"{sha256}"'} if have else {}
    with wire.stream(url, headers) as response:
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        with part.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                on_bytes(file.tell())


def _take(part: Path, sha256: str, path: Path) -> None:
    with part.open("rb+") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found == sha256:
            os.fsync(file.fileno())
    if found != sha256:
        part.unlink()
        raise Damaged(
            f"What came for {path} has SHA-256 {found}, the server announced {sha256}. Nothing was kept; "
            "download it again."
        )
    part.replace(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
