"""What a route may ask for, as annotated types."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from api import auth
from api.feeds import Feeds
from api.metrics import Metrics
from api.rate import Rate
from api.reception import RightOfWay
from api.trail import Trail
from api.watch import Watch
from shared import logs
from shared.audit import Actor
from shared.db import Sessions
from shared.queue import Enqueue
from shared.settings import Settings
from shared.storage import Storage


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API is made of; `create_app` is given them."""

    settings: Settings
    sessions: Sessions
    storage: Storage
    enqueue: Enqueue
    ping: Callable[[], None]
    """Asks the broker for a sign of life; raises `shared.queue.BrokerAway`."""
    watch: Watch
    feeds: Feeds
    right_of_way: RightOfWay
    """Who adds to which upload."""
    rate: Rate
    metrics: Metrics


# `async`, because FastAPI sends each plain function to a thread of its own.
async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]


async def _sessions(parts: PartsDep) -> Sessions:
    return parts.sessions


async def _storage(parts: PartsDep) -> Storage:
    return parts.storage


async def _watch(parts: PartsDep) -> Watch:
    return parts.watch


async def _caller(request: Request) -> auth.Caller:
    caller: auth.Caller = request.state.caller
    return caller


CallerDep = Annotated[auth.Caller, Depends(_caller)]
"""Who makes the request: their project, and the name that their key has."""


async def _project(caller: CallerDep) -> str:
    logs.note(project=caller.project)
    return caller.project


SessionsDep = Annotated[Sessions, Depends(_sessions)]
StorageDep = Annotated[Storage, Depends(_storage)]
WatchDep = Annotated[Watch, Depends(_watch)]

Caller = Annotated[str, Depends(_project)]
"""The caller's project, which owns what is made and asked for."""


async def _trail(parts: PartsDep, caller: CallerDep) -> Trail:
    return Trail(parts.sessions, Actor(caller.project, caller.name))


TrailDep = Annotated[Trail, Depends(_trail)]


async def counted(parts: PartsDep, caller: CallerDep) -> None:
    """Refuses a request of who makes too many. Without a key, on this machine, nobody does."""
    if caller != auth.NOBODY and (seconds := parts.rate.wait((caller.project, caller.name))):
        detail = (
            f"More than {parts.rate.per_minute:,} requests a minute with the key {caller.name!r}. Wait {seconds} s."
        )
        raise HTTPException(429, detail, {"Retry-After": str(seconds)})
