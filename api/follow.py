"""Each request, from its first byte to its last: its id, its line in the log, and that it counts."""

import logging
import re
import time
import uuid
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from shared import logs

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
UNKNOWN = "(no route)"
_GOOD = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = _READS | {"POST", "PUT", "PATCH", "DELETE"}


class Followed:
    """Gives each request an id, the one it came with if that is fit to be one, and writes a line about it.

    The line has the route and not the path, in which there may be names. Who only reads is seen at the level `debug`:
    clients that wait for a job ask once a second.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        structlog.contextvars.clear_contextvars()
        request_id = _id(Headers(scope=scope))
        began, status, first = time.perf_counter(), 0, 0.0

        async def sending(message: Message) -> None:
            nonlocal status, first
            if message["type"] == "http.response.start":
                status, first = message["status"], time.perf_counter() - began
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with logs.about(request=request_id):
            try:
                await self.app(scope, receive, sending)
            finally:
                self.metrics.answered(method(scope), route(scope), status, first)
                quiet = scope["method"] in _READS and status < HTTPStatus.BAD_REQUEST
                level = logging.DEBUG if quiet else logging.INFO
                log.log(level, "%s: %d in %.3f s", asked(scope), status, time.perf_counter() - began)


def route(scope: Scope) -> str:
    """The route that a request has taken, as `/v1/jobs/{job_id}`."""
    return getattr(scope.get("route"), "path", None) or UNKNOWN


def method(scope: Scope) -> str:
    """The request's method, if it is one that there is."""
    named: str = scope["method"]
    return named if named in _METHODS else "OTHER"


def asked(scope: Scope) -> str:
    """What was asked for, without any name that may be in it."""
    return f"{method(scope)} {route(scope)}"


def _id(headers: Headers) -> str:
    came = headers.get(HEADER, "")
    return came if _GOOD.fullmatch(came) else uuid.uuid4().hex
