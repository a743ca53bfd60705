"""Priors: installed ones, and how to come by one of one's own."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import AfterValidator
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from api import schemas
from api.deps import Caller, Parts, PartsDep, SessionsDep, StorageDep, TrailDep
from api.problems import documented
from api.routes import IdempotencyKey, fetches, trainings
from api.trail import Trail
from shared import fetches as bringing
from shared import priors
from shared import trainings as life
from shared.audit import Action
from shared.db import Sessions
from shared.errors import NotFound
from shared.fetches import FetchSpec
from shared.models import Fetch, Prior, Training
from shared.queue import Task
from shared.states import LIVE_FETCH, LIVE_TRAINING
from shared.storage import Storage, prior_key
from shared.trainings import TrainingSpec

router = APIRouter(prefix="/v1/priors", tags=["priors"])


def _name(value: str) -> str:
    if "\0" in value:
        raise NotFound(f"There is no prior {value!r}.")
    return value


Name = Annotated[str, Path(description="A prior's name.", max_length=100), AfterValidator(_name)]


def _kept(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"content": {media_type: {}}, "description": "The file."},
        304: {"description": "The caller has the file: it named its ETag in If-None-Match."},
        **documented(404, 422),
    }


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


@router.get(
    "/{name}/facts", summary="A prior's card for programs", response_class=Response, responses=_kept("application/json")
)
def get_prior_facts(
    name: Name, caller: Caller, sessions: SessionsDep, storage: StorageDep, request: Request
) -> Response:
    """Every setting, what was measured along the way and in the end, and the hashes of weights and images, as JSON;
    docs/priors.md explains the fields. 404 for a prior that was not trained here."""
    return _file(request, sessions, storage, caller, name, priors.FACTS)


@router.get("/{name}/samples", summary="Samples of a prior", response_class=Response, responses=_kept("image/png"))
def get_prior_samples(
    name: Name, caller: Caller, sessions: SessionsDep, storage: StorageDep, request: Request
) -> Response:
    """A grid of pictures that it drew of nothing but noise when it was done; they are those that its card speaks of.
    404 for a prior that was not trained here."""
    return _file(request, sessions, storage, caller, name, priors.SAMPLES)


@router.delete("/{name}", status_code=204, summary="Delete a prior", responses=documented(404, 409, 422))
def delete_prior(name: Name, caller: Caller, sessions: SessionsDep, trail: TrailDep) -> None:
    """Only what was trained, fetched or added here can be deleted; of what was added the files stay. 409 while a job
    that is not over, or a training, needs it."""
    with sessions.write() as session:
        priors.delete(session, caller, name)
        trail.note(session, Action.DELETED, f"/v1/priors/{name}")


def _file(request: Request, sessions: Sessions, storage: Storage, owner: str, name: str, which: str) -> Response:
    """Of a prior that was trained here: of others the workers alone have the files."""
    with sessions.read() as session:
        training_id = priors.get(session, owner, name).training_id
    try:
        data = storage.read(prior_key(training_id) + which) if training_id else None
    except FileNotFoundError:
        data = None
    if data is None:
        raise NotFound(f"The prior {name!r} has no {which} here: it was not trained here.")
    media_type = "image/png" if which == priors.SAMPLES else "application/json"
    return trainings.unless_known(request, data, media_type, {"X-Content-Type-Options": "nosniff"})


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
