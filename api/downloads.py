"""Stored files over HTTP: in parts (Range), and only if they are not known already (ETag)."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import Any

from anyio import to_thread
from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from api import problems
from api.problems import documented
from shared.bucket import Bucket
from shared.storage import Folder, Storage

_LINK_SECONDS = 900.0
"""For which one may begin to fetch a file from a bucket; what has begun goes on."""
_AHEAD = 4 * 2**20
# Python knows some of these only where the system does.
_MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".webp": "image/webp",
    ".zip": "application/zip",
}


def answers(media_type: str, *problem: int) -> dict[int | str, dict[str, Any]]:
    """What a route that ends in `download` answers, as FastAPI's `responses`; `problem` adds statuses of its own."""
    content: dict[str, Any] = {"content": {media_type: {}}}
    return {
        200: {**content, "description": "The file. Its ETag is its SHA-256."},
        206: {**content, "description": "The part that Range asked for."},
        304: {"description": "The caller has the file: it named its ETag in If-None-Match."},
        **documented(400, 404, 416, 422, *problem),
    }


def drawn(media_type: str, *problem: int) -> dict[int | str, dict[str, Any]]:
    """What a route answers that draws a picture and knows its ETag before; `problem` adds statuses of its own."""
    return {
        200: {"content": {media_type: {}}, "description": "The picture. Its ETag is that of what it is drawn from."},
        304: {"description": "The caller has the picture: it named its ETag in If-None-Match."},
        **documented(400, 404, 422, *problem),
    }


def download(
    request: Request,
    storage: Storage,
    key: str,
    sha256: str,
    *,
    name: str | None = None,
    kind: str = "",
    presigned: bool = False,
) -> Response:
    """A stored file whose content is known by its hash; 304 if the caller has it.

    Args:
        name: what a browser saves it as; left out, it shows it.
        kind: media type, where `key` does not tell by its extension.
        presigned: whether to send the caller to the bucket, if it lies in one.
    """
    etag = f'"{sha256}"'
    if known(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    # What a stranger uploaded is never anything but what we say it is.
    headers = {"ETag": etag, "X-Content-Type-Options": "nosniff"}
    media_type = kind or _MEDIA_TYPES[PurePosixPath(key).suffix]
    if isinstance(storage, Folder):
        return _Download(storage.path(key), headers=headers, media_type=media_type, filename=name)
    if not isinstance(storage, Bucket):
        raise TypeError(f"nobody knows how to send what lies in a {type(storage).__name__}")
    if presigned and request.method == "GET":
        # Such a URL is a key to the file: nobody is to keep it.
        headers |= {"Location": storage.link(key, _LINK_SECONDS), "Cache-Control": "no-store"}
        return Response(status_code=307, headers=headers)
    return _FromBucket(storage, key, headers, media_type, name)


def known(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names `etag` (RFC 9110 section 13.1.2: compared weakly)."""
    values = ",".join(request.headers.getlist("if-none-match"))
    tags = {tag.strip().removeprefix("W/") for tag in values.split(",")}
    return "*" in tags or etag.removeprefix("W/") in tags


class _Download(FileResponse):
    """A file whose refusals (416, and 400 for a Range that makes no sense) are problems like all others."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal: Message | None = None

        async def unless_refused(message: Message) -> None:
            nonlocal refusal
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refusal = message
            elif refusal is None:
                await send(message)

        await super().__call__(scope, receive, unless_refused)
        if refusal is not None:
            told = Headers(raw=refusal["headers"])
            headers = {"Content-Range": told["content-range"]} if "content-range" in told else {}
            asked = Headers(scope=scope).get("range")
            response = problems.response(refusal["status"], f"The file has no range {asked!r}.", headers=headers)
            await response(scope, receive, send)


class _FromBucket(_Download):
    """The same of an object in a bucket, which passes through here by Range requests."""

    def __init__(self, bucket: Bucket, key: str, headers: dict[str, str], media_type: str, name: str | None) -> None:
        found = bucket.look(key)
        self._bucket, self._key, self._size = bucket, key, found["size"]
        changed = int(found["last_modified"].timestamp())
        told = os.stat_result((0, 0, 0, 0, 0, 0, self._size, changed, changed, changed))
        super().__init__(key, headers=headers, media_type=media_type, filename=name, stat_result=told)

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[Any]:
        yield _Reading(self._bucket, self._key, self._size)


class _Reading:
    """What Starlette asks of an open file."""

    def __init__(self, bucket: Bucket, key: str, size: int) -> None:
        self._bucket, self._key, self._size = bucket, key, size
        self._at, self._ahead = 0, b""

    async def seek(self, offset: int) -> None:
        self._at, self._ahead = offset, b""

    async def read(self, size: int) -> bytes:
        if not self._ahead:
            end = min(self._at + _AHEAD, self._size)
            self._ahead = await to_thread.run_sync(self._bucket.part, self._key, self._at, end)
            self._at = end
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data
