"""Fetches of priors from a hub: watched, cancelled, deleted. `POST /v1/priors/{name}/fetch` asks for one."""

from collections.abc import Sequence

from fastapi import APIRouter, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import schemas
from api.deps import Caller, PartsDep, SessionsDep, TrailDep
from api.pages import AskedDep, Page
from api.problems import documented
from api.routes import HexId
from shared import fetches
from shared.audit import Action
from shared.models import Fetch
from shared.states import LIVE_FETCH

PATH = "/v1/fetches"

router = APIRouter(prefix=PATH, tags=["priors"])


@router.get("", summary="List fetches", responses=documented(422))
def list_fetches(caller: Caller, sessions: SessionsDep, asked: AskedDep) -> Page[schemas.fetches.Fetch]:
    """Newest first."""
    with sessions.read() as session:
        found = asked.newest_first(session, select(Fetch).where(Fetch.owner == caller), Fetch)
        waits = fetches.waits_for(session, found.rows)
        return asked.page(found, lambda row: schemas.fetches.Fetch.from_row(row, waits.get(row.id)))


@router.get("/{fetch_id}", summary="A fetch and how far it is", responses=documented(404, 422))
def get_fetch(fetch_id: HexId, caller: Caller, sessions: SessionsDep, response: Response) -> schemas.fetches.Fetch:
    """`Retry-After` is there as long as something may still change. What its worker does is seen two seconds late."""
    with sessions.read() as session:
        fetch = told(session, [fetches.get(session, caller, fetch_id)])[0]
    if fetch.state in LIVE_FETCH:
        response.headers["Retry-After"] = "1"
    return fetch


@router.post("/{fetch_id}/cancel", summary="Cancel a fetch", responses=documented(404, 422))
def cancel_fetch(fetch_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> schemas.fetches.Fetch:
    """Its worker stops within two seconds. It does nothing to one that is over.

    What is here stays: the same request again goes on with it.
    """
    with parts.sessions.write() as session:
        fetch = fetches.get(session, caller, fetch_id)
        before = fetch.state
        fetches.cancel(session, fetch)
        if fetch.state != before:
            trail.note(session, Action.CANCELLED, f"{PATH}/{fetch_id}")
        return told(session, [fetch])[0]


@router.delete("/{fetch_id}", status_code=204, summary="Delete a fetch", responses=documented(404, 422))
def delete_fetch(fetch_id: HexId, caller: Caller, sessions: SessionsDep, trail: TrailDep) -> None:
    """It is gone at once, with what came of it so far, in whatever state it was; a worker that is at it stops.

    The prior that it has brought stays.
    """
    with sessions.write() as session:
        fetches.delete(session, fetches.get(session, caller, fetch_id))
        trail.note(session, Action.DELETED, f"{PATH}/{fetch_id}")


def told(session: Session, some: Sequence[Fetch]) -> list[schemas.fetches.Fetch]:
    """Some fetches as their owner is told of them."""
    waits = fetches.waits_for(session, some)
    return [schemas.fetches.Fetch.from_row(row, waits.get(row.id)) for row in some]
