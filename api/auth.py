"""Who is asking: by a key in the header Authorization, by the cookie of a browser, or from this machine."""

import ipaddress
import logging
from dataclasses import dataclass
from urllib.parse import urlencode

from anyio import to_thread
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems
from api.guards import LOOPBACK, host_name
from shared import keys
from shared.db import Sessions
from shared.errors import Unauthorized

log = logging.getLogger(__name__)

COOKIE = "regrow_session"
SESSION = "/v1/session"
SIGN_IN = "/sign-in"
OPEN = frozenset({"/", "/healthz", "/readyz", "/docs", "/openapi.json", SIGN_IN})
"""What is answered without a key: nothing that belongs to a project."""

_FILES = ("/docs/", "/static/")
"""What pages are made of; open too."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Only a proxy sends one of these, and then nobody knows from where the request comes.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: `name` of the key's holder, and the project that owns what is made and asked for."""

    project: str
    name: str


NOBODY = Caller(keys.LOCAL, keys.LOCAL)
"""Who comes from this machine without a key."""


class CrossSite(Exception):
    """A change that is asked for under a cookie, and not by a page of this service."""


class Keys:
    """Lets nobody pass who has no key, before anything of the body is read, and notes the caller (`Caller`) in the
    request's state.

    Without `required`, requests of this machine itself need none. What is in `OPEN` is let through unasked: a new route
    is behind the door unless somebody opens it.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, *, required: bool) -> None:
        self.app = app
        self.sessions = sessions
        self.required = required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if not self.required and _is_local(request):
            await self._pass(NOBODY, request, receive, send)
            return
        try:
            holder = await to_thread.run_sync(self._holder, request)
        except Unauthorized as error:
            await refusal(request, error)(scope, receive, send)
        except CrossSite as error:
            await problems.response(403, str(error))(scope, receive, send)
        except (OperationalError, InterfaceError) as error:
            await problems.database_away(request, error)(scope, receive, send)
        else:
            await self._pass(Caller(holder.project, holder.name), request, receive, send)
            if holder.stale:
                await to_thread.run_sync(self._note, holder.key_id)

    async def _pass(self, caller: Caller, request: Request, receive: Receive, send: Send) -> None:
        request.state.caller = caller
        await self.app(request.scope, receive, send)

    def _holder(self, request: Request) -> keys.Holder:
        said = request.headers.getlist("authorization")
        token = request.cookies.get(COOKIE)
        if not said and token is not None:
            if request.method not in _SAFE and not _of_our_page(request.headers):
                raise CrossSite(
                    "This is asked for by no page of this service. Scripts send their key instead of a cookie."
                )
            with self.sessions.read() as session:
                return keys.signed_in(session, token)
        if not said:
            raise Unauthorized("Send your key as `Authorization: Bearer rg_…`; `regrow keys create` makes one.")
        scheme, _, key = said[0].partition(" ")
        if len(said) > 1 or scheme.lower() != "bearer":
            raise Unauthorized("Send one key, as `Authorization: Bearer rg_…`.")
        with self.sessions.read() as session:
            return keys.holder(session, key.strip())

    def _note(self, key_id: str) -> None:
        # The answer is on its way: a database that is busy or gone by now spoils nothing.
        try:
            with self.sessions.write() as session:
                keys.note_use(session, key_id)
        except SQLAlchemyError as error:
            log.warning("the use of key %s is not noted: %s", key_id, error)


def refusal(request: Request, error: Unauthorized) -> Response:
    """What is answered to somebody without a key that counts: to a browser the page to sign in at, which says so. A
    cookie that counts no more is taken back."""
    if _wants_a_page(request):
        asked = request.url.path + ("?" + request.url.query if request.url.query else "")
        answer: Response = RedirectResponse(f"{SIGN_IN}?{urlencode({'then': asked})}", 303)
    else:
        named = ', error="invalid_token"' if "authorization" in request.headers else ""
        answer = problems.response(401, error.detail, headers={"WWW-Authenticate": problems.CHALLENGE + named})
    if COOKIE in request.cookies:
        forget_cookie(request, answer)
    return answer


def is_open(method: str, path: str) -> bool:
    """Whether a request is answered without a key."""
    return path in OPEN or path.startswith(_FILES) or (method, path) == ("POST", SESSION)


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Have the browser keep the token, where no script and no other site can read it."""
    secure = request.url.scheme == "https"
    seconds = int(keys.SIGN_IN_SECONDS)
    response.set_cookie(COOKIE, token, max_age=seconds, httponly=True, samesite="lax", secure=secure)


def forget_cookie(request: Request, response: Response) -> None:
    """Have the browser forget it."""
    response.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=request.url.scheme == "https")


def _wants_a_page(request: Request) -> bool:
    """Whether a person's browser asks for a page, and not a program or a script of the page for something else."""
    navigates = request.headers.get("sec-fetch-mode", "navigate") == "navigate"
    return request.method == "GET" and navigates and request.headers.get("accept", "").startswith("text/html")


def _is_local(request: Request) -> bool:
    """Whether it comes from this machine, by no proxy, and names no key.

    The address is that of the socket which took the connection: it cannot be made up, as a Host can.
    """
    server = request.scope.get("server")
    named = "authorization" in request.headers or COOKIE in request.cookies
    if named or not server or any(header in request.headers for header in _FORWARDED):
        return False
    try:
        loopback = ipaddress.ip_address(server[0]).is_loopback
    except ValueError:
        return False
    return loopback and host_name(request.headers) in LOOPBACK


def _of_our_page(headers: Headers) -> bool:
    """Whether a browser says that a page of this service sent it. `guards.Hosts` has compared Origin with Host."""
    return "origin" in headers or headers.get("sec-fetch-site") == "same-origin"
