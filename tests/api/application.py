"""The application, made for each test."""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.routing import BaseRoute

from api.main import create_app
from api.watch import FRESH
from shared.db import Sessions
from shared.queue import Enqueue
from shared.settings import Settings
from shared.storage import Storage

_routes: list[BaseRoute] = []


def make_application(
    settings: Settings,
    sessions: Sessions,
    storage: Storage,
    enqueue: Enqueue,
    ping: Callable[[], None],
    fresh: float = FRESH,
) -> FastAPI:
    """As `create_app` makes it, with the routes of the first one in this process: they know nothing of an application,
    and FastAPI works them out at its first request, which takes longer than most tests do."""
    made = create_app(settings, sessions, storage, enqueue, ping, fresh=fresh)
    if _routes:
        made.router.routes[:] = _routes
    else:
        _routes.extend(made.router.routes)
    return made
