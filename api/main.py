"""The API as an application, and its composition root for `uvicorn --factory api.main:from_settings`."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse, RedirectResponse
from sqlalchemy.exc import OperationalError
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

import migrations
from api import VERSION, problems
from api.auth import COOKIE, Keys, is_open
from api.deps import Parts, counted
from api.feeds import Feeds
from api.follow import Followed
from api.guards import LOOPBACK, BodyLimit, Hosts, Room
from api.headers import SecurityHeaders
from api.metrics import Metrics
from api.problems import documented
from api.rate import Rate
from api.reception import RightOfWay
from api.routes import (
    accounts,
    archives,
    audit,
    datasets,
    events,
    fetches,
    filters,
    health,
    items,
    jobs,
    masks,
    priors,
    receipts,
    reviews,
    session,
    trainings,
    uploads,
    verdicts,
)
from api.tus import Tus
from api.watch import FRESH, Watch
from api.web import pages
from shared import logs, queue
from shared.bucket import make_storage
from shared.db import Sessions, make_sessions
from shared.errors import NotConfigured
from shared.queue import Enqueue
from shared.settings import Settings
from shared.storage import Storage

_DESCRIPTION = """
Expands small labelled object-detection datasets: what is labelled in an image stays, the rest is hidden behind a
random mask and regrown by a diffusion model. Upload a zip, make a job of it, download a zip that trains as it is.

Every error is [problem+json](https://www.rfc-editor.org/rfc/rfc9457): `type` never changes, `detail` is for people.
"""
_TAGS = [
    {"name": "datasets", "description": "Uploaded datasets and their images."},
    {
        "name": "uploads",
        "description": "Large datasets, in pieces: [tus 1.0](https://tus.io/protocols/resumable-upload).",
    },
    {"name": "masks", "description": "What of an image is kept, and what is regrown."},
    {"name": "jobs", "description": "Requests to expand a dataset."},
    {"name": "items", "description": "The new images of a job, one by one."},
    {"name": "review", "description": "What new images are like, and what people think of them."},
    {"name": "archives", "description": "The zip of a finished job."},
    {"name": "receipts", "description": "Images that are forgotten, and what says so."},
    {"name": "priors", "description": "The models that regrow what is hidden."},
    {"name": "trainings", "description": "Priors of one's own, while they are trained."},
    {"name": "session", "description": "Whose key it is, and signing in with it in a browser."},
    {"name": "audit", "description": "Who did what."},
    {"name": "health", "description": "For those who run the service."},
]
_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer rg_…`"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Of a browser that is signed in."},
}
_SWAGGER = Path(__file__).parent / "swagger"
_MAX_BODY = 1024 * 1024
"""Largest JSON body, and the most that a form may hold beside its file, in bytes."""


def create_app(
    settings: Settings,
    sessions: Sessions,
    storage: Storage,
    enqueue: Enqueue,
    ping: Callable[[], None],
    fresh: float = FRESH,
) -> FastAPI:
    """The application.

    Args:
        ping: asks the broker for a sign of life; raises `shared.queue.BrokerAway`.
        fresh: seconds for which the answer for a job is given again.
    """
    app = _Documented(
        title="Regrow",
        summary="Expands labelled image datasets by diffusion posterior sampling.",
        description=_DESCRIPTION,
        version=VERSION,
        openapi_tags=_TAGS,
        responses=documented(401, 403, 500, 503),
        generate_unique_id_function=lambda route: route.name,
        # FastAPI's own pages load scripts from other sites.
        docs_url=None,
        redoc_url=None,
    )
    app.hsts = settings.hsts_seconds
    watch = Watch(sessions, jobs.look, fresh)
    rate = Rate(settings.max_requests_per_minute)
    feeds, right_of_way, metrics = Feeds(sessions, watch), RightOfWay(), Metrics(sessions)
    app.state.parts = Parts(settings, sessions, storage, enqueue, ping, watch, feeds, right_of_way, rate, metrics)
    looked_at = (jobs, events, items, verdicts, reviews, filters, accounts, archives)
    for routes in (datasets, uploads, masks, *looked_at, receipts, priors, trainings, fetches, audit):
        app.include_router(routes.router, dependencies=[Depends(counted)], responses=documented(429))
    for routes in (session, health):
        app.include_router(routes.router)
    app.add_api_route("/", _front, include_in_schema=False)
    app.add_api_route("/docs", _docs, include_in_schema=False)
    app.mount("/docs", StaticFiles(directory=_SWAGGER), "swagger")
    pages.install(app)
    problems.install(app)
    largest = settings.max_upload_bytes
    whole = largest + _MAX_BODY
    forms = (datasets.PATH, "/datasets")
    others = {**dict.fromkeys(forms, whole), f"{uploads.PATH}/": largest}
    app.add_middleware(Room, paths=forms, most=whole, storage=storage, reserve=settings.min_free_bytes)
    app.add_middleware(BodyLimit, most=_MAX_BODY, others=others)
    app.add_middleware(Keys, sessions=sessions, required=settings.require_key)
    app.add_middleware(Tus, path=uploads.PATH)
    hosts = settings.host_names
    app.add_middleware(Hosts, hosts=None if settings.require_key and not hosts else LOOPBACK | hosts)
    return app


def from_settings() -> FastAPI:
    """The application as the environment says."""
    settings = Settings()
    logs.configure("api", settings.log_format, settings.log_level)
    broker = settings.broker_url.get_secret_value()
    if not broker:
        raise NotConfigured(
            "REGROW_BROKER_URL is not set. Name a Redis, such as redis://localhost:6379/0, or run `regrow serve`, "
            "which starts one of its own."
        )
    sender = queue.make_app(broker)
    sessions = make_sessions(settings.database)
    _check_form(sessions)
    return create_app(
        settings,
        sessions,
        make_storage(settings),
        queue.make_enqueue(sender),
        partial(queue.ping, sender),
    )


def _check_form(sessions: Sessions) -> None:
    """Raises NotConfigured for a database of another version. One that is away is not asked: requests wait for it."""
    with suppress(OperationalError):
        migrations.check(sessions.engine)


def _front() -> RedirectResponse:
    return RedirectResponse("/datasets", 307)


def _docs() -> FileResponse:
    return FileResponse(_SWAGGER / "index.html")


class _Documented(FastAPI):
    """FastAPI, whose description says that problems are `application/problem+json`, of which each request is followed,
    and whose every answer has the headers of `api.headers`."""

    hsts = 0

    def build_middleware_stack(self) -> ASGIApp:
        # Around all: what was added as middleware does not see an answer to an unexpected error.
        return Followed(SecurityHeaders(super().build_middleware_stack(), self.hsts), self.state.parts.metrics)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["securitySchemes"] = _SCHEMES
            document["security"] = [{name: []} for name in _SCHEMES]
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    if is_open(method.upper(), path):
                        operation["security"] = []
            operations = [each for path in document["paths"].values() for each in path.values()]
            for answer in (answer for operation in operations for answer in operation["responses"].values()):
                content = answer.get("content", {})
                if content.get("application/json", {}).get("schema", {}).get("$ref") == problems.SCHEMA:
                    content[problems.MEDIA_TYPE] = content.pop("application/json")
        return super().openapi()
