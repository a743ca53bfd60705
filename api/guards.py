"""What is refused before any route sees it: requests that a web page made, and bodies that are too large."""

import re
from collections.abc import Collection, Mapping, Set

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from shared import caps, settings
from shared.errors import NoSpace
from shared.storage import Storage

LOOPBACK = frozenset(f"[{name}]" if ":" in name else name for name in settings.LOOPBACK)

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/]+)(:\d+)?")


class Hosts:
    """Answers only requests addressed to one of `hosts` (None: to whatever), and none that another site's page sent.

    Without keys, whoever reaches the port may do everything, and any page in the user's browser reaches it: by a name
    of its own that it points at 127.0.0.1 (DNS rebinding; the Host is foreign), or by a form (the Origin is foreign).
    """

    def __init__(self, app: ASGIApp, hosts: Set[str] | None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await problems.response(403, refusal)(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        host, name = _host(headers), host_name(headers)
        if self.hosts is not None and name not in self.hosts:
            return f"This service answers on {', '.join(sorted(self.hosts))} only, not on {host!r}."
        if name is None:
            return f"{host!r} is no host."
        origin = headers.get("origin")
        if origin is not None and origin.lower().removeprefix("http://").removeprefix("https://") != host:
            return f"A page of {origin!r} may not use this service."
        return None


def host_name(headers: Headers) -> str | None:
    """The name a request is addressed to, without its port; None if there is none, or several."""
    found = _HOST.fullmatch(_host(headers))
    return found[1] if found else None


def _host(headers: Headers) -> str:
    return ",".join(headers.getlist("host")).lower()


class Room:
    """Refuses an upload as a form to one of `paths`, before its body is read, if it would not fit into the storage.
    What is larger than `most` bytes is left to be refused for that."""

    def __init__(self, app: ASGIApp, paths: Collection[str], most: int, storage: Storage, reserve: int) -> None:
        self.app = app
        self.paths = paths
        self.most = most
        self.storage = storage
        self.reserve = reserve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in self.paths and scope["method"] == "POST":
            length = Headers(scope=scope).get("content-length", "")
            size = int(length) if length.isdecimal() else 0
            try:
                if size <= self.most:
                    caps.check_room(caps.room_for_upload(size), self.storage.free(), self.reserve)
            except NoSpace as error:
                await problems.of(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyLimit:
    """Reads at most `others[path]` bytes of a body, or `most` where the path is not named; more is 413.

    A path that ends in a slash names all that lie directly in it.

    Starlette writes an upload to a temporary file before a route sees it: without this it could fill the disk.
    """

    def __init__(self, app: ASGIApp, most: int, others: Mapping[str, int]) -> None:
        self.app = app
        self.most = most
        self.others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        folder = scope["path"].rpartition("/")[0] + "/"
        limit = self.others.get(scope["path"], self.others.get(folder, self.most))
        length = Headers(scope=scope).get("content-length", "")
        declared = int(length) if length.isdecimal() else 0
        received = 0

        async def counted() -> Message:
            nonlocal received
            if declared <= limit:
                message = await receive()
                received += len(message.get("body", b""))
                if received <= limit:
                    return message
            # An HTTPException, because FastAPI turns anything else raised while it reads a body into a 400.
            raise HTTPException(413, f"The body is larger than the {limit:,} bytes taken at {scope['path']}.")

        await self.app(scope, counted, send)
