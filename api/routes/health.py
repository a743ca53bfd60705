"""Is it there, and can it work?"""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

import migrations
from api.deps import Parts, PartsDep
from api.schemas.health import Health, Readiness
from shared import workers
from shared.db import Sessions
from shared.errors import NotConfigured
from shared.queue import BrokerAway
from shared.states import Wait
from shared.storage import Storage

router = APIRouter(tags=["health"])

OK = "ok"
_UNKNOWN = "not known without the database"


@router.get("/healthz", summary="Is the API there?")
def get_health() -> Health:
    """Answers as long as the process does; asks nobody else."""
    return Health()


@router.get(
    "/readyz",
    summary="Can work be done?",
    responses={503: {"model": Readiness, "description": "Something is missing; `parts` says what."}},
)
def get_readiness(parts: PartsDep, response: Response) -> Readiness:
    """Asks the database, whether it has the form that this version needs, the broker and the storage, and looks for a
    worker on each queue."""
    found = {"database": _database(parts.sessions)}
    there = found["database"] == OK
    found["migrations"] = _migrations(parts.sessions) if there else _UNKNOWN
    found["broker"] = _broker(parts)
    found["storage"] = _storage(parts.storage)
    found["workers"] = _workers(parts.sessions) if there and found["migrations"] == OK else _UNKNOWN
    ready = all(said == OK for said in found.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, parts=found)


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Figures as text."}},
)
def get_metrics(parts: PartsDep, request: Request) -> Response:
    """In Prometheus' text format, or OpenMetrics if that is asked for. The database is looked at every few seconds."""
    write, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(write(parts.metrics.registry), headers={"Content-Type": media_type})


def _database(sessions: Sessions) -> str:
    try:
        with sessions.read() as session:
            session.execute(select(1))
    except SQLAlchemyError:
        return "no answer; is REGROW_DATABASE_URL right, and the database running?"
    return OK


def _migrations(sessions: Sessions) -> str:
    try:
        migrations.check(sessions.engine)
    except NotConfigured as error:
        return error.detail
    except SQLAlchemyError:
        return _UNKNOWN
    return OK


def _broker(parts: Parts) -> str:
    try:
        parts.ping()
    except BrokerAway:
        return "no answer; is REGROW_BROKER_URL right, and Redis running?"
    return OK


def _storage(storage: Storage) -> str:
    key = "probes/readyz"
    try:
        storage.write(key, b"")
        storage.delete(key)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return OK


def _workers(sessions: Sessions) -> str:
    with sessions.read() as session:
        missing = workers.missing(session)
    said = {
        Wait.NO_WORKER: f"no worker seen on queue {{}} in the last {workers.ALIVE_FOR:.0f} s",
        Wait.NO_GPU: "the worker on queue {} waits for the GPU that REGROW_DEVICE names",
        Wait.STORAGE_LOW: "the worker on queue {} waits for free space (REGROW_MIN_FREE_GB)",
        Wait.STORAGE_AWAY: "the worker on queue {} waits for a storage folder that it can write to",
    }
    return "; ".join(said[why].format(queue) for queue, why in missing.items()) or OK
