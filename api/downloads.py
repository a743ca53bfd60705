"""Stored files over HTTP: in parts (Range), and only if they are not known already (ETag)."""

from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from api import problems
from api.problems import documented

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


def download(request: Request, path: Path, sha256: str, *, name: str | None = None, kind: str = "") -> Response:
    """A stored file whose content is known by its hash; 304 if the caller has it.

    Args:
        name: what a browser saves it as; left out, it shows it.
        kind: media type, where `path` does not tell by its extension.
    """
    etag = f'"{sha256}"'
    if known(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    # What a stranger uploaded is never anything but what we say it is.
    headers = {"ETag": etag, "X-Content-Type-Options": "nosniff"}
    return _Download(path, headers=headers, media_type=kind or _MEDIA_TYPES[path.suffix], filename=name)


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
