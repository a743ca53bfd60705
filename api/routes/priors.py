"""Priors: installed ones, and how to come by one of one's own."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import AfterValidator
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from api import schemas
from api.deps import Caller, Parts, PartsDep, SessionsDep, TrailDep
from api.problems import documented
from api.routes import IdempotencyKey, fetches, trainings
from api.trail import Trail
from shared import fetches as bringing
from shared import priors
from shared import trainings as life
from shared.audit import Action
from shared.errors import NotFound
from shared.fetches import FetchSpec
from shared.models import Fetch, Prior, Training
from shared.queue import Task
from shared.states import LIVE_FETCH, LIVE_TRAINING
from shared.trainings import TrainingSpec

router = APIRouter(prefix="/v1/priors", tags=["priors"])


def _name(value: str) -> str:
    if "\0" in value:
        raise NotFound(f"There is no prior {value!r}.")
    return value


Name = Annotated[str, Path(description="A prior's name.", max_length=100), AfterValidator(_name)]


@router.get("", summary="List the installed priors, and what is being trained or fetched")
def list_priors(caller: Caller, sessions: SessionsDep) -> schemas.priors.Priors:
    """A prior is the model that regrows what is hidden. Workers register those they find when they start; those that
    were trained or fetched here can be used at once."""
    mine = select(Training).where(Training.owner == caller, Training.state.in_(LIVE_TRAINING))
    coming = select(Fetch).where(Fetch.owner == caller, Fetch.state.in_(LIVE_FETCH))
    with sessions.read() as session:
        rows = session.scalars(select(Prior).where(priors.visible(caller)).order_by(Prior.name)).all()
        live = session.scalars(mine.order_by(Training.created_at, Training.id)).all()
        brought = session.scalars(coming.order_by(Fetch.created_at, Fetch.id)).all()
        return schemas.priors.Priors(
            items=[schemas.priors.Prior.from_row(row) for row in rows],
            trainings=trainings.told(session, live),
            fetches=fetches.told(session, brought),
        )


@router.post("", status_code=202, summary="Train a prior", responses=documented(400, 404, 409, 413, 422))
def create_prior(
    spec: TrainingSpec,
    caller: Caller,
    parts: PartsDep,
    trail: TrailDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> schemas.trainings.Training:
    """From the images of the dataset's split `train`; no other is looked at. A gpu worker does it, between the jobs,
    checkpoint by checkpoint; `Location` says how far it is. In the end there is a prior that jobs can name.

    409 where the name belongs to a prior, or to another training that is not over.
    """
    try:
        training = _create(parts, trail, caller, spec, idempotency_key)
    except IntegrityError:
        # The same request, or the same name, came twice at the same moment: now it is a fact.
        training = _create(parts, trail, caller, spec, idempotency_key)
    parts.enqueue(Task.TRAIN)
    response.headers.update({"Location": f"{trainings.PATH}/{training.id}", "Retry-After": "1"})
    return training


@router.post(
    "/{name}/fetch", status_code=202, summary="Fetch a prior from a hub", responses=documented(400, 404, 409, 413, 422)
)
def fetch_prior(
    name: Name, spec: FetchSpec, caller: Caller, parts: PartsDep, trail: TrailDep, response: Response
) -> schemas.fetches.Fetch:
    """From a repository that the operator allows. A cpu worker does it; `Location` says how far it is. In the end there
    is a prior that jobs can name.

    The same request again gives the same fetch, and goes on with one that failed or was cancelled. 409 where the name
    belongs to a prior, or to a training or another fetch that is not over.
    """
    try:
        fetch = _fetch(parts, trail, caller, name, spec)
    except IntegrityError:
        # The same name came twice at the same moment: now it is a fact.
        fetch = _fetch(parts, trail, caller, name, spec)
    if fetch.state in LIVE_FETCH:
        parts.enqueue(Task.FETCH)
    response.headers.update({"Location": f"{fetches.PATH}/{fetch.id}", "Retry-After": "1"})
    return fetch


@router.get("/{name}", summary="A prior and its card", responses=documented(404, 422))
def get_prior(name: Name, caller: Caller, sessions: SessionsDep) -> schemas.priors.Prior:
    """What it is, and from where."""
    with sessions.read() as session:
        return schemas.priors.Prior.from_row(priors.get(session, caller, name))


@router.delete("/{name}", status_code=204, summary="Delete a prior", responses=documented(404, 409, 422))
def delete_prior(name: Name, caller: Caller, sessions: SessionsDep, trail: TrailDep) -> None:
    """Only what was trained, fetched or added here can be deleted; of what was added the files stay. 409 while a job
    that is not over, or a training, needs it."""
    with sessions.write() as session:
        priors.delete(session, caller, name)
        trail.note(session, Action.DELETED, f"/v1/priors/{name}")


def _create(parts: Parts, trail: Trail, owner: str, spec: TrainingSpec, key: str | None) -> schemas.trainings.Training:
    with parts.sessions.write() as session:
        earlier = life.sent_before(session, owner, spec, key)
        training = earlier or life.create(session, owner, spec, key)
        if earlier is None:
            trail.note(session, Action.CREATED, f"{trainings.PATH}/{training.id}")
        return trainings.told(session, [training])[0]


def _fetch(parts: Parts, trail: Trail, owner: str, name: str, spec: FetchSpec) -> schemas.fetches.Fetch:
    with parts.sessions.write() as session:
        fetch, changed = bringing.create(session, owner, name, spec, parts.settings)
        if changed:
            trail.note(session, Action.CREATED, f"{fetches.PATH}/{fetch.id}")
        return fetches.told(session, [fetch])[0]
