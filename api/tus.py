"""What tus 1.0 (https://tus.io/protocols/resumable-upload) asks of requests and answers beside what a route does."""

import base64
import binascii
import hashlib
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Annotated

from fastapi import Header, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import Fault, Invalid

if TYPE_CHECKING:
    from hashlib import _Hash

VERSION = "1.0.0"
EXTENSIONS = "creation,expiration,termination,checksum"
PIECE = "application/offset+octet-stream"

CHECKSUMS: dict[str, "Callable[[], _Hash]"] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}


class Tus:
    """Puts the version into every answer below `path`, and takes the method from X-HTTP-Method-Override."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app = app
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(f"{self.path}/"):
            await self.app(scope, receive, send)
            return

        async def with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"])["Tus-Resumable"] = VERSION
            await send(message)

        # For those who cannot send PATCH or DELETE.
        method = Headers(scope=scope).get("x-http-method-override", scope["method"]).upper()
        await self.app({**scope, "method": method}, receive, with_version)


async def spoken(
    request: Request,
    version: Annotated[
        str | None, Header(alias="Tus-Resumable", description=f"The version of tus: {VERSION}. GET needs none.")
    ] = None,
) -> None:
    """Refuses a request that is not of our version, unless it is none of tus."""
    if request.method != "GET" and version != VERSION:
        detail = f"This is for tus {VERSION}, and the request says {version!r} in its header Tus-Resumable."
        raise HTTPException(412, detail, {"Tus-Version": VERSION})


def metadata(header: str) -> dict[str, str]:
    """The pairs of an Upload-Metadata: a key and its value in base64, with commas between them.

    Raises:
        Invalid: it is none.
    """
    # A key alone has an empty value. Some clients send the header empty, or with spaces after its commas.
    pairs = [pair.strip().partition(" ") for pair in header.split(",") if pair.strip()]
    try:
        found = {key: base64.b64decode(value, validate=True).decode() for key, _, value in pairs}
    except ValueError as error:
        raise _bad("Upload-Metadata", f"is not keys with values of UTF-8 text in base64 ({error})") from None
    if len(found) != len(pairs) or not all(key.isascii() and key.isprintable() for key in found):
        raise _bad("Upload-Metadata", "has a key twice, or one that is no plain text")
    return found


def checksum(header: str | None) -> tuple["_Hash", bytes] | None:
    """What to hash a piece with and what must come out, as Upload-Checksum says. Raises Invalid."""
    if header is None:
        return None
    name, _, digest = header.partition(" ")
    if name not in CHECKSUMS:
        raise _bad("Upload-Checksum", f"names none of {', '.join(CHECKSUMS)}")
    try:
        return CHECKSUMS[name](), base64.b64decode(digest, validate=True)
    except binascii.Error as error:
        raise _bad("Upload-Checksum", f"has no base64 after its first word ({error})") from None


def date(seconds: float) -> str:
    """A time in seconds since 1970, as HTTP writes it."""
    return formatdate(seconds, usegmt=True)


def _bad(header: str, what: str) -> Invalid:
    return Invalid(f"The header {header} {what}.", [Fault(f"header.{header}", what)])
