"""Pages on the way to a job: the form, the mask, what it would take, and a pilot of it."""

import json
import shlex
import uuid
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from api import schemas
from api.deps import Caller, Parts, PartsDep, SessionsDep, StorageDep, TrailDep
from api.routes import HexId
from api.routes import jobs as rest
from api.routes.masks import MaskPreview, preview_mask
from api.web import form
from api.web.site import go, router, show
from shared import datasets, jobs
from shared.errors import Fault, Invalid, KeyReused, RegrowError
from shared.formats import places
from shared.models import Dataset, Image, Item, Prior
from shared.priors import PRIOR, visible
from shared.spec import PRESETS, ExpansionSpec

pages = router()
pictures = APIRouter(include_in_schema=False)

_SAMPLES = 12
"""Images of the dataset that a mask can be looked at on."""
_MOST_PILOTS = 8
_OF_A_PILOT = ("variants", "max_images", "name")


async def _sent(request: Request) -> dict[str, list[str]]:
    data = await request.form()
    return {name: [str(each) for each in data.getlist(name)] for name in data}


Sent = Annotated[Mapping[str, list[str]], Depends(_sent)]


@pages.get("/datasets/{dataset_id}/expand", name="page_expand")
def show_form(
    dataset_id: HexId,
    request: Request,
    caller: Caller,
    parts: PartsDep,
    like: Annotated[str, Query(pattern="^([0-9a-f]{32})?$", description="A job to take the numbers of.")] = "",
) -> Response:
    """The form, filled in with the defaults or with what a job had."""
    filled: dict[str, list[str]] = {}
    if like:
        with parts.sessions.read() as session:
            spec = jobs.get(session, caller, like).spec
        filled = form.texts(_entries(), {key: each for key, each in spec.items() if key not in _OF_A_PILOT})
    return _form(request, caller, parts, dataset_id, filled)


@pages.post("/datasets/{dataset_id}/expand", name="page_create_job")
def create_job(
    dataset_id: HexId,
    request: Request,
    caller: Caller,
    parts: PartsDep,
    trail: TrailDep,
    response: Response,
    sent: Sent,
) -> Response:
    """Make a job, or a pilot; what is wrong is said beside the field."""
    key = next(iter(sent.get("key", [])), None)
    try:
        if "pilot" in sent:
            made = [
                rest.create_job(spec, caller, parts, trail, response, key and f"{key}-{number}")
                for number, spec in enumerate(_pilots(dataset_id, sent))
            ]
            return go("/pilots?" + urlencode([("job", job.id) for job in made]))
        spec = _spec(dataset_id, sent)
        try:
            job = rest.create_job(spec, caller, parts, trail, response, key)
        except KeyReused:
            # The page was gone back to, and something else asked for.
            job = rest.create_job(spec, caller, parts, trail, response, None)
    except RegrowError as error:
        faults = error.faults or [Fault("", error.detail)]
        return _form(request, caller, parts, dataset_id, sent, faults, error.status)
    return go(f"/jobs/{job.id}")


@pages.post("/datasets/{dataset_id}/estimate", name="page_estimate")
def show_estimate(dataset_id: HexId, request: Request, caller: Caller, parts: PartsDep, sent: Sent) -> Response:
    """What the form, as it is filled in now, would take; and the same request for programs."""
    try:
        spec = _spec(dataset_id, sent)
        estimate = rest.estimate_job(spec, caller, parts)
    except RegrowError as error:
        known = _entries()
        faults = [Fault(form.written(known, each.where.removeprefix("body.")), each.what) for each in error.faults]
        return show(request, "estimate.html", faults=faults or [Fault("", error.detail)])
    body = _asked(dataset_id, sent)
    url = str(request.url_for("create_job"))
    curl = f"curl {shlex.quote(url)} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(json.dumps(body))}"
    return show(request, "estimate.html", faults=(), estimate=estimate, body=body, curl=curl)


@pictures.get("/datasets/{dataset_id}/mask", name="page_mask")
def show_mask(
    dataset_id: HexId, request: Request, caller: Caller, sessions: SessionsDep, storage: StorageDep, image: int
) -> Response:
    """The mask of the form, as it is filled in now, on an image. What is wrong is told as a problem."""
    query = request.query_params
    spec = _spec(dataset_id, {name: query.getlist(name) for name in query})
    if spec.operator.kind != "inpaint":
        raise Invalid(f"The operator {spec.operator.kind} hides no pixels: there is no mask to look at.")
    shared = {name: getattr(spec, name) for name in ("seed", "prior", "canvas", "unlabelled")}
    shared["preset"] = spec.sampler.preset
    asked = MaskPreview(dataset_id=dataset_id, image_id=image, mask=spec.operator.mask, size="source", **shared)
    return preview_mask(asked, caller, sessions, storage)


@pages.get("/pilots", name="page_pilot")
def show_pilot(
    request: Request,
    caller: Caller,
    sessions: SessionsDep,
    job: Annotated[list[str], Query(min_length=1, max_length=_MOST_PILOTS)],
) -> Response:
    """A contact sheet: an image a row, a job a column."""
    with sessions.read() as session:
        told = [rest.look(session, caller, each) for each in job]
        cells = {each.id: _cells(session, each.id) for each in told}
        ids = dict.fromkeys(image_id for column in cells.values() for image_id in column)
        images = [session.get_one(Image, image_id) for image_id in ids]
        dataset = datasets.get(session, caller, told[0].dataset_id)
    over = all(each.finished_at is not None for each in told)
    return show(request, "pilot.html", jobs=told, cells=cells, images=images, dataset=dataset, over=over)


def _entries() -> list[form.Entry]:
    found = form.of(ExpansionSpec)
    return [entry for name, entry in found.items() if name != "dataset_id"]


def _asked(dataset_id: str, sent: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {"dataset_id": dataset_id} | form.read(_entries(), sent)


def _spec(dataset_id: str, sent: Mapping[str, Sequence[str]]) -> ExpansionSpec:
    return _checked(_asked(dataset_id, sent))


def _checked(asked: dict[str, Any]) -> ExpansionSpec:
    """The spec. Raises Invalid with a fault for each field."""
    try:
        return ExpansionSpec.model_validate(asked)
    except ValidationError as error:
        faults = form.faults(error)
        raise Invalid("; ".join(map(str, faults)), faults) from None


def _pilots(dataset_id: str, sent: Mapping[str, Sequence[str]]) -> list[ExpansionSpec]:
    """The same request for a few images, once for each preset and spread of the mask that is to be tried."""
    asked = _asked(dataset_id, sent)
    chosen = asked.get("sampler", {}).get("preset", _preset().default)
    presets = sent.get("pilot.presets") or [chosen]
    sigmas: list[str] = "".join(sent.get("pilot.sigmas", ())).replace(",", " ").split()
    few = next(iter(sent.get("pilot.images", ())), "3")
    made = []
    for preset, sigma in product(presets, sigmas or [""]):
        # Numbers of one preset mean something else in another.
        sampler = asked.get("sampler", {}) if preset == chosen else {"preset": preset}
        trial = asked | {"sampler": sampler, "variants": 1, "max_images": few}
        trial["name"] = f"Pilot: {preset}" + (f", sigma {sigma}" if sigma else "")
        if sigma:
            operator = asked.get("operator", {})
            trial["operator"] = operator | {"mask": operator.get("mask", {}) | {"sigma": sigma}}
        made.append(_checked(trial))
    if len(made) > _MOST_PILOTS:
        raise Invalid(f"A pilot has at most {_MOST_PILOTS} columns, and this would have {len(made)}.")
    return made


def _preset() -> form.Field:
    sampler = form.of(ExpansionSpec)["sampler"]
    assert isinstance(sampler, form.Group)  # noqa: S101
    return next(each for each in sampler.fields if isinstance(each, form.Field) and each.key == "preset")


def _cells(session: Session, job_id: str) -> dict[int, schemas.items.Item]:
    whole = joinedload(Item.image).load_only(Image.path, Image.split), joinedload(Item.verdict)
    rows = session.scalars(select(Item).where(Item.job_id == job_id).order_by(Item.id).options(*whole))
    return {row.image_id: schemas.items.Item.from_row(row, 1) for row in rows}


def _form(
    request: Request,
    caller: str,
    parts: Parts,
    dataset_id: str,
    filled: Mapping[str, Sequence[str]],
    faults: Sequence[Fault] = (),
    status: int = 200,
) -> Response:
    with parts.sessions.read() as session:
        dataset: Dataset = datasets.get_ready(session, caller, dataset_id)
        # Labelled ones first: most masks are drawn around labels.
        images = session.scalars(select(Image).where(Image.dataset_id == dataset_id).order_by(Image.sha256).limit(200))
        samples = sorted(images, key=lambda image: not image.boxes)[:_SAMPLES]
        known = select(Prior.name).where(visible(caller), Prior.kind == PRIOR)
        priors = session.scalars(known.order_by(Prior.name)).all()
    ticked = [split for split in dataset.splits if places.role(split) == "train"]
    entries = {entry.name: entry for entry in _entries()}
    if not parts.settings.webhook_secret.get_secret_value():
        # This installation signs nothing: an address would be refused.
        del entries["webhook"]
    wrong = {fault.where.removeprefix("body."): fault.what for fault in faults}
    return show(
        request,
        "expand.html",
        status=status,
        dataset=dataset,
        samples=samples,
        entries=entries,
        preset=_preset(),
        choices={"prior": priors, "splits": dataset.splits},
        presets=list(PRESETS),
        # Of a set with nothing to train on, all.
        filled={"splits": ticked or dataset.splits} | dict(filled),
        trains=bool(ticked),
        faults=wrong,
        written={where: form.written(list(entries.values()), where) for where in wrong},
        key=uuid.uuid4().hex,
    )
