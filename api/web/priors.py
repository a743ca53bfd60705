"""Pages about priors: installed ones, and those that are trained or fetched."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastapi import Request, Response
from pydantic import Field, ValidationError
from sqlalchemy import select

from api import schemas
from api.deps import Caller, Parts, PartsDep, SessionsDep, StorageDep, TrailDep
from api.routes import HexId
from api.routes import fetches as fetch_rest
from api.routes import priors as rest
from api.routes import trainings as training_rest
from api.web import curves, form
from api.web.expansions import Sent
from api.web.site import go, router, show
from shared import trainings
from shared.errors import Fault, RegrowError
from shared.fetches import FetchSpec
from shared.models import Dataset, Fetch, Prior, Training
from shared.priors import PRIOR, visible
from shared.states import LIVE_FETCH, LIVE_TRAINING, DatasetState
from shared.trainings import TrainingSpec

pages = router()

_ENDED = 20
_HUB = "hub."
"""How the names of fields begin that say what is to be fetched: the page has another form with a `name`."""


class _Fetching(FetchSpec):
    """What the form for it asks."""

    name: str = Field("", description="What jobs will call the prior: lower-case letters, digits, `.`, `_` and `-`.")


@pages.get("/priors", name="page_priors")
def show_priors(request: Request, caller: Caller, parts: PartsDep) -> Response:
    """All priors with their cards, the trainings and the fetches."""
    return _all(request, caller, parts)


@pages.post("/priors", name="page_create_prior")
def create_prior(
    request: Request, caller: Caller, parts: PartsDep, trail: TrailDep, response: Response, sent: Sent
) -> Response:
    """Start a training; what is wrong is said beside the field."""
    try:
        spec = TrainingSpec.model_validate(form.read(list(form.of(TrainingSpec).values()), sent))
        training = rest.create_prior(spec, caller, parts, trail, response)
    except ValidationError as error:
        return _all(request, caller, parts, sent, form.faults(error), 422)
    except RegrowError as error:
        return _all(request, caller, parts, sent, error.faults or [Fault("", error.detail)], error.status)
    return go(f"/trainings/{training.id}")


@pages.post("/priors/{name}/delete", name="page_delete_prior")
def delete_prior(name: rest.Name, caller: Caller, sessions: SessionsDep, trail: TrailDep) -> Response:
    """Delete a prior that was trained, fetched or added here."""
    rest.delete_prior(name, caller, sessions, trail)
    return go("/priors")


@pages.get("/trainings/{training_id}", name="page_training")
def show_training(
    training_id: HexId, request: Request, caller: Caller, sessions: SessionsDep, storage: StorageDep
) -> Response:
    """One training: how far it is, curves, samples."""
    with sessions.read() as session:
        training = training_rest.told(session, [trainings.get(session, caller, training_id)])[0]
    history = training_rest.get_training_history(training_id, caller, sessions, storage)
    return show(
        request,
        "training.html",
        training=training,
        live=training.state in LIVE_TRAINING,
        curves=curves.of(history.points),
        width=curves.WIDTH,
        height=curves.HEIGHT,
    )


@pages.post("/trainings/{training_id}/delete", name="page_delete_training")
def delete_training(training_id: HexId, caller: Caller, sessions: SessionsDep, trail: TrailDep) -> Response:
    """Delete a training with its checkpoints."""
    training_rest.delete_training(training_id, caller, sessions, trail)
    return go("/priors")


@pages.post("/trainings/{training_id}/cancel", name="page_cancel_training")
def cancel_training(training_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> Response:
    """End a training."""
    training_rest.cancel_training(training_id, caller, parts, trail)
    return go(f"/trainings/{training_id}")


@pages.post("/trainings/{training_id}/retry", name="page_retry_training")
def retry_training(training_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> Response:
    """Go on with a training."""
    training_rest.retry_training(training_id, caller, parts, trail)
    return go(f"/trainings/{training_id}")


@pages.post("/fetches", name="page_create_fetch")
def create_fetch(
    request: Request, caller: Caller, parts: PartsDep, trail: TrailDep, response: Response, sent: Sent
) -> Response:
    """Have a prior fetched; what is wrong is said beside the field."""
    asked = form.read(list(_hub_entries().values()), sent)
    name = asked.pop("name", "")
    try:
        rest.fetch_prior(name, FetchSpec.model_validate(asked), caller, parts, trail, response)
    except ValidationError as error:
        faults = [Fault(_HUB + each.where, each.what) for each in form.faults(error)]
        return _all(request, caller, parts, sent, faults, 422)
    except RegrowError as error:
        faults = [Fault(_HUB + each.where.rpartition(".")[2], each.what) for each in error.faults]
        return _all(request, caller, parts, sent, faults or [Fault("", error.detail)], error.status)
    return go("/priors#fetches")


@pages.post("/fetches/{fetch_id}/cancel", name="page_cancel_fetch")
def cancel_fetch(fetch_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep) -> Response:
    """End a fetch."""
    fetch_rest.cancel_fetch(fetch_id, caller, parts, trail)
    return go("/priors#fetches")


@pages.post("/fetches/{fetch_id}/again", name="page_repeat_fetch")
def repeat_fetch(fetch_id: HexId, caller: Caller, parts: PartsDep, trail: TrailDep, response: Response) -> Response:
    """Go on with a fetch that failed or was cancelled."""
    asked = fetch_rest.get_fetch(fetch_id, caller, parts.sessions, response)
    spec = FetchSpec.model_validate(asked.model_dump(include=set(FetchSpec.model_fields)))
    rest.fetch_prior(asked.name, spec, caller, parts, trail, response)
    return go("/priors#fetches")


@pages.post("/fetches/{fetch_id}/delete", name="page_delete_fetch")
def delete_fetch(fetch_id: HexId, caller: Caller, sessions: SessionsDep, trail: TrailDep) -> Response:
    """Delete a fetch with what came of it."""
    fetch_rest.delete_fetch(fetch_id, caller, sessions, trail)
    return go("/priors#fetches")


def _hub_entries() -> dict[str, form.Field]:
    found = {name: each for name, each in form.of(_Fetching).items() if isinstance(each, form.Field)}
    return {_HUB + name: replace(each, name=_HUB + name) for name, each in found.items()}


def _all(
    request: Request,
    caller: str,
    parts: Parts,
    filled: Mapping[str, Sequence[str]] | None = None,
    faults: Sequence[Fault] = (),
    status: int = 200,
) -> Response:
    mine = select(Training).where(Training.owner == caller).order_by(Training.created_at.desc()).limit(_ENDED)
    ready = select(Dataset).where(Dataset.owner == caller, Dataset.state == DatasetState.READY)
    ours = select(Fetch).where(Fetch.owner == caller).order_by(Fetch.created_at.desc()).limit(_ENDED)
    with parts.sessions.read() as session:
        installed = session.scalars(select(Prior).where(visible(caller)).order_by(Prior.name)).all()
        priors = [schemas.priors.Prior.from_row(row) for row in installed]
        told = training_rest.told(session, session.scalars(mine).all())
        fetches = fetch_rest.told(session, session.scalars(ours).all())
        names = {row.id: row.name for row in session.scalars(ready.order_by(Dataset.created_at.desc()))}
    return show(
        request,
        "priors.html",
        status=status,
        priors=priors,
        trainings=told,
        datasets=names,
        entries=form.of(TrainingSpec),
        choices={
            "init": ["", *(prior.name for prior in priors if prior.kind == PRIOR)],
            f"{_HUB}architecture": ["", "sd1", "sd2", "sd2-base", "xl"],
            f"{_HUB}variant": ["", "fp16"],
        },
        fetches=fetches,
        coming=any(fetch.state in LIVE_FETCH for fetch in fetches),
        may_fetch=parts.settings.fetches,
        hub=_hub_entries(),
        filled=filled or {},
        faults={fault.where.removeprefix("body."): fault.what for fault in faults},
    )
