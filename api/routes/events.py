"""What happens to a job, as it happens: Server-Sent Events."""

import logging
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Response
from sqlalchemy.exc import SQLAlchemyError
from sse_starlette import EventSourceResponse

from api.deps import Caller, PartsDep
from api.feeds import SEPARATOR, Feeds, encode
from api.problems import documented
from api.routes import HexId

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/jobs/{job_id}/events", tags=["jobs"])

PING_SECONDS = 15


@router.get(
    "",
    summary="Listen to a job",
    response_class=Response,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "The events, until the job is over and its archive is built.",
        },
        **documented(404, 422),
    },
)
async def listen_to_job(
    job_id: HexId,
    caller: Caller,
    parts: PartsDep,
    last_event_id: Annotated[
        float | None,
        Header(ge=0, allow_inf_nan=False, description="`id` of the last event that was received, to go on after it."),
    ] = None,
) -> Response:
    """Server-Sent Events. `progress`: the job, as `GET /v1/jobs/{id}` gives it; the first event, and one whenever the
    job has changed. `item`: an item, as it is listed, once it is done, failed or cancelled. `state`: `{"state": ...}`
    when the job's state has changed.

    With `Last-Event-ID` the items settled since follow the first event; some may have been sent before. The stream
    ends when the job is over and its archive is built, or cannot be; one that ends while the last `progress` says
    otherwise was cut, and is to be opened again.
    """
    # Asked here too, so that a job which is not there is a 404 and no stream.
    await parts.watch.answer(caller, job_id)
    events = _events(parts.feeds, caller, job_id, last_event_id)
    return EventSourceResponse(events, sep=SEPARATOR, ping=PING_SECONDS)


async def _events(feeds: Feeds, caller: str, job_id: str, since: float | None) -> AsyncIterator[bytes]:
    async with feeds.joined(caller, job_id) as feed:
        last, following = feed.last, feed.next
        if last is None:
            return
        yield encode("progress", last.body.decode(), feed.place)
        if since is not None:
            try:
                async for events in feed.settled_since(since):
                    yield events
            except SQLAlchemyError as error:
                log.warning("a listener of job %s is let go, and will come back: %s", job_id, error)
                return
        async for events in feed.backlog.read(following):
            yield events
