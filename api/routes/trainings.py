"""Trainings: watched, and told what to do. Each of the latter can be repeated."""

import hashlib
import json
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api import schemas
from api.deps import Caller, Parts, PartsDep, SessionsDep, StorageDep, TrailDep
from api.downloads import known
from api.pages import AskedDep, Page
from api.problems import documented
from api.routes import HexId
from api.trail import Trail
from shared import trainings
from shared.audit import Action
from shared.errors import Conflict
from shared.models import Training
from shared.queue import Task
from shared.states import LIVE_TRAINING
from shared.storage import training_key

PATH = "/v1/trainings"

router = APIRouter(prefix=PATH, tags=["trainings"])


@router.get("", summary="List trainings", responses=documented(422))
def list_trainings(caller: Caller, sessions: SessionsDep, asked: AskedDep) -> Page[schemas.trainings.Training]:
    """Newest first."""
    with sessions.read() as session:
        found = asked.newest_first(session, select(Training).where(Training.owner == caller), Training)
        waits = trainings.waits_for(session, found.rows)
        return asked.page(found, lambda row: schemas.trainings.Training.from_row(row, waits.get(row.id)))


@router.get(
    "/{training_id}",
    summary="A training and how far it is",
    response_model=schemas.trainings.Training,
    responses={
        304: {"description": "Nothing has changed since the caller got the ETag that If-None-Match names."},
        **documented(404, 422),
    },
)
def get_training(training_id: HexId, caller: Caller, sessions: SessionsDep, request: Request) -> Response:
    """`Retry-After` is there as long as something may still change. What its worker does is seen two seconds late."""
    with sessions.read() as session:
        training = told(session, [trainings.get(session, caller, training_id)])[0]
    body = training.model_dump_json().encode()
    headers = {"Retry-After": "1"} if training.state in LIVE_TRAINING else {}
    return unless_known(request, body, "application/json", headers)


@router.get(
    "/{training_id}/preview",
    summary="Samples of what it has learned",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "A grid of pictures that were drawn of nothing but noise."},
        304: {"description": "The caller has the picture: it named its ETag in If-None-Match."},
        **documented(404, 409, 422),
    },
)
def get_training_preview(
    training_id: HexId, caller: Caller, sessions: SessionsDep, storage: StorageDep, request: Request
) -> Response:
    """As they were at its last checkpoint. 409 while there are none."""
    with sessions.read() as session:
        state = trainings.get(session, caller, training_id).state
    try:
        png = storage.read(training_key(training_id, "preview.png"))
    except FileNotFoundError:
        raise Conflict(f"Nothing was drawn yet: training {training_id} is {state}.") from None
    return unless_known(request, png, "image/png", {"X-Content-Type-Options": "nosniff"})


@router.get("/{training_id}/history", summary="How well it did so far", responses=documented(404, 422))
def get_training_history(
    training_id: HexId, caller: Caller, sessions: SessionsDep, storage: StorageDep
) -> schemas.trainings.History:
    """On images held out from it. Empty until its first checkpoint."""
    with sessions.read() as session:
        trainings.get(session, caller, training_id)
    try:
        points = json.loads(storage.read(training_key(training_id, "history.json")))
    except FileNotFoundError:
        points = []
    return schemas.trainings.History(points=points)


@router.post("/{training_id}/cancel", summary="Cancel a training", responses=documented(404, 422))
def cancel_training(training_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> schemas.trainings.Training:
    """Its worker stops within two seconds or two steps, whichever is longer. It does nothing to one that is over.

    Its last checkpoint stays: `/retry` takes the cancel back.
    """
    return _tell(parts, trail, caller, training_id, trainings.cancel, Action.CANCELLED)


@router.post(
    "/{training_id}/retry", summary="Go on with what failed or was cancelled", responses=documented(404, 409, 422)
)
def retry_training(training_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> schemas.trainings.Training:
    """From its last checkpoint, as if it had not ended. It does nothing to one that is running or done.

    409 where the name belongs to a prior by now, or to another training that is not over.
    """
    try:
        return _tell(parts, trail, caller, training_id, trainings.retry, Action.RETRIED)
    except IntegrityError:
        # Another training of its name came at the same moment: now it is a fact.
        return _tell(parts, trail, caller, training_id, trainings.retry, Action.RETRIED)


@router.delete("/{training_id}", status_code=204, summary="Delete a training", responses=documented(404, 422))
def delete_training(training_id: HexId, caller: Caller, sessions: SessionsDep, trail: TrailDep) -> None:
    """It is gone at once, with its checkpoints, in whatever state it was; a worker that is at it stops.

    The prior that it has made stays. The files follow within seconds.
    """
    with sessions.write() as session:
        trainings.delete(session, trainings.get(session, caller, training_id))
        trail.note(session, Action.DELETED, f"{PATH}/{training_id}")


def told(session: Session, some: Sequence[Training]) -> list[schemas.trainings.Training]:
    """Some trainings as their owner is told of them."""
    waits = trainings.waits_for(session, some)
    return [schemas.trainings.Training.from_row(row, waits.get(row.id)) for row in some]


def _tell(
    parts: Parts,
    trail: Trail,
    owner: str,
    training_id: str,
    change: Callable[[Session, Training], None],
    action: Action,
) -> schemas.trainings.Training:
    with parts.sessions.write() as session:
        training = trainings.get(session, owner, training_id)
        before = training.state
        change(session, training)
        if training.state != before:
            trail.note(session, action, f"{PATH}/{training_id}")
        answer = told(session, [training])[0]
    if answer.state in LIVE_TRAINING:
        parts.enqueue(Task.TRAIN)
    return answer


def unless_known(request: Request, body: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """The body with its ETag; 304 if the caller has it."""
    headers = headers | {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
    if known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)
