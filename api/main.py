"""The API as an application, and its composition root for `uvicorn --factory api.main:from_settings`."""

from collections.abc import Callable, Set
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from api import VERSION, problems
from api.deps import Parts
from api.feeds import Feeds
from api.guards import LOOPBACK, BodyLimit, LocalOnly
from api.problems import documented
from api.reception import RightOfWay
from api.routes import (
    accounts,
    archives,
    datasets,
    events,
    filters,
    health,
    items,
    jobs,
    masks,
    priors,
    receipts,
    reviews,
    trainings,
    uploads,
    verdicts,
)
from api.tus import Tus
from api.watch import FRESH, Watch
from shared import queue
from shared.db import Sessions, make_sessions
from shared.errors import NotConfigured
from shared.queue import Enqueue
from shared.settings import Settings
from shared.storage import Folder

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
    {"name": "health", "description": "For those who run the service."},
]
_MAX_BODY = 1024 * 1024
"""Largest JSON body, and the most that a form may hold beside its file, in bytes."""


def create_app(
    settings: Settings,
    sessions: Sessions,
    storage: Folder,
    enqueue: Enqueue,
    ping: Callable[[], None],
    hosts: Set[str] = LOOPBACK,
    fresh: float = FRESH,
) -> FastAPI:
    """The application.

    Args:
        ping: asks the broker for a sign of life; raises `shared.queue.BrokerAway`.
        hosts: the names it answers to, as they are in a Host header, without port.
        fresh: seconds for which the answer for a job is given again.
    """
    app = _Documented(
        title="Regrow",
        summary="Expands labelled image datasets by diffusion posterior sampling.",
        description=_DESCRIPTION,
        version=VERSION,
        openapi_tags=_TAGS,
        responses=documented(403, 500, 503),
        generate_unique_id_function=lambda route: route.name,
    )
    watch = Watch(sessions, jobs.look, fresh)
    app.state.parts = Parts(settings, sessions, storage, enqueue, ping, watch, Feeds(sessions, watch), RightOfWay())
    looked_at = (jobs, events, items, verdicts, reviews, filters, accounts, archives)
    for routes in (datasets, uploads, masks, *looked_at, receipts, priors, trainings, health):
        app.include_router(routes.router)
    app.add_api_route("/", _docs, include_in_schema=False)
    problems.install(app)
    largest = settings.max_upload_bytes
    others = {datasets.PATH: largest + _MAX_BODY, f"{uploads.PATH}/": largest}
    app.add_middleware(BodyLimit, most=_MAX_BODY, others=others)
    app.add_middleware(Tus, path=uploads.PATH)
    app.add_middleware(LocalOnly, hosts=hosts)
    return app


def from_settings() -> FastAPI:
    """The application as the environment says."""
    settings = Settings()
    broker = settings.broker_url.get_secret_value()
    if not broker:
        raise NotConfigured(
            "REGROW_BROKER_URL is not set. Name a Redis, such as redis://localhost:6379/0, or run `regrow serve`, "
            "which starts one of its own."
        )
    sender = queue.make_app(broker)
    return create_app(
        settings,
        make_sessions(settings.database),
        Folder(settings.storage),
        queue.make_enqueue(sender),
        partial(queue.ping, sender),
    )


def _docs() -> RedirectResponse:
    return RedirectResponse("/docs", 307)


class _Documented(FastAPI):
    """FastAPI, whose description says that problems are `application/problem+json`."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            operations = [each for path in super().openapi()["paths"].values() for each in path.values()]
            for answer in (answer for operation in operations for answer in operation["responses"].values()):
                content = answer.get("content", {})
                if content.get("application/json", {}).get("schema", {}).get("$ref") == problems.SCHEMA:
                    content[problems.MEDIA_TYPE] = content.pop("application/json")
        return super().openapi()
