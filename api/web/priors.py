"""Pages about priors: installed ones, and those that are trained."""

from collections.abc import Mapping, Sequence

from fastapi import Request, Response
from pydantic import ValidationError
from sqlalchemy import select

from api import schemas
from api.deps import Caller, PartsDep, SessionsDep, StorageDep, TrailDep
from api.routes import HexId
from api.routes import priors as rest
from api.routes import trainings as training_rest
from api.web import curves, form
from api.web.expansions import Sent
from api.web.site import go, router, show
from shared import trainings
from shared.db import Sessions
from shared.errors import Fault, RegrowError
from shared.models import Dataset, Prior, Training
from shared.priors import PRIOR, visible
from shared.states import LIVE_TRAINING, DatasetState
from shared.trainings import TrainingSpec

pages = router()

_ENDED = 20


@pages.get("/priors", name="page_priors")
def show_priors(request: Request, caller: Caller, sessions: SessionsDep) -> Response:
    """All priors with their cards, and the trainings."""
    return _all(request, caller, sessions)


@pages.post("/priors", name="page_create_prior")
def create_prior(
    request: Request, caller: Caller, parts: PartsDep, trail: TrailDep, response: Response, sent: Sent
) -> Response:
    """Start a training; what is wrong is said beside the field."""
    try:
        spec = TrainingSpec.model_validate(form.read(list(form.of(TrainingSpec).values()), sent))
        training = rest.create_prior(spec, caller, parts, trail, response)
    except ValidationError as error:
        return _all(request, caller, parts.sessions, sent, form.faults(error), 422)
    except RegrowError as error:
        return _all(request, caller, parts.sessions, sent, error.faults or [Fault("", error.detail)], error.status)
    return go(f"/trainings/{training.id}")


@pages.post("/priors/{name}/delete", name="page_delete_prior")
def delete_prior(name: rest.Name, caller: Caller, sessions: SessionsDep, trail: TrailDep) -> Response:
    """Delete a prior that was trained here."""
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


def _all(
    request: Request,
    caller: str,
    sessions: Sessions,
    filled: Mapping[str, Sequence[str]] | None = None,
    faults: Sequence[Fault] = (),
    status: int = 200,
) -> Response:
    mine = select(Training).where(Training.owner == caller).order_by(Training.created_at.desc()).limit(_ENDED)
    ready = select(Dataset).where(Dataset.owner == caller, Dataset.state == DatasetState.READY)
    with sessions.read() as session:
        installed = session.scalars(select(Prior).where(visible(caller)).order_by(Prior.name)).all()
        priors = [schemas.priors.Prior.from_row(row) for row in installed]
        told = training_rest.told(session, session.scalars(mine).all())
        names = {row.id: row.name for row in session.scalars(ready.order_by(Dataset.created_at.desc()))}
    return show(
        request,
        "priors.html",
        status=status,
        priors=priors,
        trainings=told,
        datasets=names,
        entries=form.of(TrainingSpec),
        choices={"init": ["", *(prior.name for prior in priors if prior.kind == PRIOR)]},
        filled=filled or {},
        faults={fault.where.removeprefix("body."): fault.what for fault in faults},
    )
