"""Every error as RFC 9457 problem+json: a stable `type`, and a `detail` for the person who reads it."""

import errno
import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api import follow
from shared import logs
from shared.errors import (
    ChecksumMismatch,
    Conflict,
    Fault,
    Gone,
    Invalid,
    Locked,
    NoSpace,
    NotFound,
    RegrowError,
    TooLarge,
    Unauthorized,
    told,
)
from shared.storage import StorageAway

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
SCHEMA = "#/components/schemas/Problem"
TYPES = "https://regrow.dev/problems/"
CHALLENGE = 'Bearer realm="regrow"'
_RETRY_AFTER = "5"
"""Seconds: what a database takes to be started again."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM = "There is no space left. Nothing of this request was kept."
_OURS: dict[int, type[RegrowError]] = {
    kind.status: kind
    for kind in (Unauthorized, NotFound, Conflict, Gone, TooLarge, Invalid, Locked, ChecksumMismatch, NoSpace)
}


class Place(BaseModel):
    """One thing that is wrong."""

    where: str = Field(description="The file, line or field.", examples=["body.variants"])
    what: str = Field(description="What is wrong there.")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="Names the kind of problem; never changes.", examples=[TYPES + "not-found"])
    title: str = Field(description="The kind of problem, in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, and what to do about it.")
    errors: list[Place] | None = Field(None, description="Each place that is wrong, where there are several to name.")
    needed: int | None = Field(None, description="Bytes that there is no space for.")
    free: int | None = Field(None, description="Bytes that are free, in that case.")
    request_id: str | None = Field(None, description="As `X-Request-ID` has it; the lines of the log carry it too.")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems a route answers with, as FastAPI's `responses`."""
    return {status: {"model": Problem, "description": _kind(status)[1]} for status in statuses}


def response(
    status: int, detail: str, *, errors: Iterable[Fault] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """A problem of the kind that `status` names."""
    slug, title = _kind(status)
    return _response(slug, title, status, detail, errors, headers)


def of(error: RegrowError) -> Response:
    """The problem that an error is."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE  # asked for by HTTP itself (RFC 9110, 11.6.1)
    return _response(error.slug, error.title, error.status, error.detail, error.faults, headers, error.figures)


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem."""
    # Starlette's types have no room for a handler of one kind of error.
    app.add_exception_handler(RegrowError, _regrow_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_exception)  # type: ignore[arg-type]
    for kind in (OperationalError, InterfaceError):
        app.add_exception_handler(kind, _database_error)  # type: ignore[arg-type]
    app.add_exception_handler(OSError, _disk)  # type: ignore[arg-type]
    app.add_exception_handler(StorageAway, _storage_away)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unexpected)


async def _regrow_error(request: Request, error: RegrowError) -> Response:
    if error.status >= 500:
        log.error("%s: %s", follow.asked(request.scope), error.detail)
    return of(error)


async def _validation_error(_request: Request, error: RequestValidationError) -> Response:
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        _, position = found[0]["loc"]
        return response(400, f"The body is not JSON: {found[0]['ctx']['error']} (at character {position}).")
    faults = told([{**each, "loc": _written(each["loc"], error.body, each["type"])} for each in found])
    return response(422, "; ".join(map(str, faults[:3])), errors=faults)


def _written(loc: Sequence[Any], body: Any, kind: str) -> list[Any]:
    """Where an error is, by the names that stand in the body: pydantic puts the names of the kinds it chose between."""
    if loc[0] != "body" or not isinstance(body, Mapping):
        return list(loc)
    found, at = [loc[0]], body
    for name in loc[1:]:
        there = (isinstance(at, Mapping) and name in at) or (isinstance(at, list) and isinstance(name, int))
        if there or (kind == "missing" and name == loc[-1]):
            found.append(name)
        if there:
            at = at[name]
    return found


async def _http_exception(request: Request, error: HTTPException) -> Response:
    if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL:
        # FastAPI's own words for it are that the body cannot be parsed.
        return response(507, _NO_ROOM)
    detail = error.detail
    if detail == HTTPStatus(error.status_code).phrase:
        detail = f"{request.method} {request.url.path}: {detail}."
    return response(error.status_code, detail, headers=error.headers)


async def _database_error(request: Request, error: OperationalError | InterfaceError) -> Response:
    return database_away(request, error)


def database_away(request: Request, error: OperationalError | InterfaceError) -> Response:
    """What is answered while the database is away."""
    # The driver's own words only: the statement and its values are no matter of a log.
    log.error("%s: the database does not answer: %s", follow.asked(request.scope), logs.words(error))
    detail = "The database does not answer at the moment. Try again in a few seconds; nothing is lost."
    return response(503, detail, headers={"Retry-After": _RETRY_AFTER})


async def _disk(request: Request, error: OSError) -> Response:
    if error.errno not in _FULL:
        raise error
    log.error("%s: %s", follow.asked(request.scope), error.strerror)
    return response(507, _NO_ROOM)


async def _storage_away(request: Request, error: StorageAway) -> Response:
    log.error("%s: %s", follow.asked(request.scope), error.strerror)
    if error.errno in _FULL:
        return response(507, _NO_ROOM)
    detail = "The storage does not answer at the moment. Try again in a few seconds; nothing is lost."
    return response(503, detail, headers={"Retry-After": _RETRY_AFTER})


async def _unexpected(request: Request, error: Exception) -> Response:
    # The server that runs us logs the traceback: Starlette raises the error again once this is sent.
    log.error("%s ended in a %s", follow.asked(request.scope), type(error).__name__)
    detail = "The service failed to answer, and it is not your doing. Its log has the reason."
    return _response("internal", "Internal error", 500, detail, (), None)


def _kind(status: int) -> tuple[str, str]:
    """The slug and title of a status."""
    if status in _OURS:
        return _OURS[status].slug, _OURS[status].title
    phrase = HTTPStatus(status).phrase
    return phrase.lower().replace(" ", "-"), phrase


def _response(
    slug: str,
    title: str,
    status: int,
    detail: str,
    errors: Iterable[Fault],
    headers: Mapping[str, str] | None,
    figures: Mapping[str, int] = MappingProxyType({}),
) -> Response:
    places = [Place(where=fault.where, what=fault.what) for fault in errors]
    problem = Problem(
        type=TYPES + slug,
        title=title,
        status=status,
        detail=detail,
        errors=places or None,
        request_id=logs.request_id(),
        **figures,
    )
    return Response(problem.model_dump_json(exclude_none=True), status, headers, MEDIA_TYPE)
