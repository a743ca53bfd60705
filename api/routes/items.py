"""The items of a job: each a new image, made or to be made."""

import json
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from PIL import Image as Picture
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from api import schemas
from api.deps import Caller, Parts, PartsDep, SessionsDep, StorageDep, TrailDep
from api.downloads import answers, download, drawn, known
from api.pages import AskedDep, Page
from api.pictures import jpeg, png
from api.problems import documented
from api.routes import HexId, Number
from shared import items, jobs, previews
from shared.errors import Conflict
from shared.images import at_source_size
from shared.models import Image, Item, Verdict
from shared.plan import Labels, keep_mask
from shared.previews import Made
from shared.sources import uploaded_mask
from shared.spec import ResolvedSpec
from shared.states import Decision, ItemState
from shared.storage import sha256
from shared.verdicts import stands

router = APIRouter(prefix="/v1/jobs/{job_id}/items", tags=["items"])

# An item that is made again has another picture at the same address, so that a browser must ask each time.
_ASK = {"Cache-Control": "private, no-cache"}
_Size = Annotated[
    int, Query(ge=16, le=previews.LARGEST, description="Pixels of an image's longer side; never more than it has.")
]
_WithBoxes = Annotated[bool, Query(description="Whether what is labelled is drawn on it.")]


@router.get("", summary="List a job's items", responses=documented(404, 422))
def list_items(
    job_id: HexId,
    caller: Caller,
    sessions: SessionsDep,
    asked: AskedDep,
    state: Annotated[ItemState | None, Query(description="Only those in this state.")] = None,
    verdict: Annotated[
        Decision | Literal["none"] | None,
        Query(description="Only those that were judged so; `none`: made, and not judged."),
    ] = None,
) -> Page[schemas.items.Item]:
    """In the order in which workers take them."""
    with sessions.read() as session:
        steps = ResolvedSpec.model_validate(jobs.get(session, caller, job_id).resolved).steps
        source = joinedload(Item.image).load_only(Image.path, Image.split)
        wanted = select(Item).where(Item.job_id == job_id).options(source, joinedload(Item.verdict))
        if state is not None:
            wanted = wanted.where(Item.state == state)
        if verdict == "none":
            wanted = wanted.where(Item.state == ItemState.DONE, ~select(Verdict.item_id).where(stands()).exists())
        elif verdict is not None:
            wanted = wanted.where(select(Verdict.item_id).where(stands(), Verdict.decision == verdict).exists())
        found = asked.by_number(session, wanted, Item)
        return asked.page(found, lambda row: schemas.items.Item.from_row(row, steps))


@router.get("/{item_id}", summary="An item", responses=documented(404, 422))
def get_item(job_id: HexId, item_id: Number, caller: Caller, sessions: SessionsDep) -> schemas.items.Item:
    """How far it is, and if it failed, why."""
    with sessions.read() as session:
        item = items.get(session, caller, job_id, item_id)
        return schemas.items.Item.from_row(item, ResolvedSpec.model_validate(item.job.resolved).steps)


@router.get(
    "/{item_id}/image",
    summary="The new image",
    response_class=Response,
    responses=answers("image/*", 409),
)
def get_item_image(
    job_id: HexId,
    item_id: Number,
    caller: Caller,
    sessions: SessionsDep,
    storage: StorageDep,
    trail: TrailDep,
    request: Request,
) -> Response:
    """As it is in the archive."""
    with sessions.read() as session:
        item = items.get(session, caller, job_id, item_id)
        state, key, digest = item.state, item.result_key, item.result_sha256
    if key is None or digest is None:
        raise _no_image(item_id, state)
    answer = download(request, storage, key, digest)
    answer.headers.update(_ASK)
    return trail.downloaded(request, answer)


@router.get(
    "/{item_id}/preview",
    summary="A small picture of a new image",
    response_class=Response,
    responses=drawn("image/jpeg", 409),
)
def get_item_preview(
    job_id: HexId,
    item_id: Number,
    caller: Caller,
    parts: PartsDep,
    request: Request,
    size: _Size = previews.LONG_SIDE,
    boxes: _WithBoxes = False,
) -> Response:
    """A JPEG, like that of an image of a dataset."""

    def draw(made: Made) -> Response:
        return jpeg(previews.variant(parts.storage, made, size, labels=boxes))

    return _picture(request, parts, caller, job_id, item_id, ["preview", size, boxes], draw)


@router.get(
    "/{item_id}/pair",
    summary="A new image beside its source",
    response_class=Response,
    responses=drawn("image/jpeg", 409),
)
def get_item_pair(
    job_id: HexId,
    item_id: Number,
    caller: Caller,
    parts: PartsDep,
    request: Request,
    size: _Size = previews.LONG_SIDE,
    boxes: _WithBoxes = False,
) -> Response:
    """A JPEG: the source on the left, what was made of it on the right."""

    def draw(made: Made) -> Response:
        return jpeg(previews.pair(parts.storage, made, size, labels=boxes))

    return _picture(request, parts, caller, job_id, item_id, ["pair", size, boxes], draw)


@router.get(
    "/{item_id}/difference",
    summary="Where a new image differs from its source",
    response_class=Response,
    responses=drawn("image/png", 409),
)
def get_item_difference(
    job_id: HexId,
    item_id: Number,
    caller: Caller,
    parts: PartsDep,
    request: Request,
    size: Annotated[
        int | None,
        Query(ge=16, le=previews.LARGEST, description="Pixels of its longer side; left out: those of the source."),
    ] = None,
    factor: Annotated[
        float, Query(ge=1, le=32, description="By how much the difference is amplified.")
    ] = previews.AMPLIFIED,
) -> Response:
    """A grey PNG: black is unchanged. The mean of the colours' differences, amplified."""

    def draw(made: Made) -> Response:
        return png(previews.difference(parts.storage, made, size, factor))

    return _picture(request, parts, caller, job_id, item_id, ["difference", size, factor], draw)


@router.get(
    "/{item_id}/mask",
    summary="What of the source image is kept",
    response_class=Response,
    responses=drawn("image/png", 409),
)
def get_item_mask(
    job_id: HexId, item_id: Number, caller: Caller, sessions: SessionsDep, storage: StorageDep, request: Request
) -> Response:
    """The mask at the size of the source image: white is kept, black is regrown. It can be asked for before the item is
    made.

    409 where the job's operator hides no pixels, such as a blur.
    """
    with sessions.read() as session:
        item = items.get(session, caller, job_id, item_id)
        seed, source, resolved = item.seed, item.image, ResolvedSpec.model_validate(item.job.resolved)
        labels, size = Labels(source.boxes, source.outlines), (source.width, source.height)
        name, mask_sha256, etag = source.path, source.mask_sha256, f'"mask-{item.work_key}"'
    if known(request, etag):
        return _unchanged(etag)
    keep, placement = keep_mask(resolved, labels, *size, seed, uploaded_mask(storage, resolved, mask_sha256, name))
    return _drawn(png(Picture.fromarray(at_source_size(keep, placement).astype(np.uint8) * 255)), etag)


def _picture(
    request: Request,
    parts: Parts,
    owner: str,
    job_id: str,
    item_id: int,
    asked: list[object],
    draw: Callable[[Made], Response],
) -> Response:
    """What is drawn of an item's image and source, as `asked` for. Raises NotFound, and Conflict without an image."""
    with parts.sessions.read() as session:
        item = items.get(session, owner, job_id, item_id)
        if item.result_key is None:
            raise _no_image(item_id, item.state)
        source, labels = item.image, (item.image.boxes, item.image.outlines)
        made = Made(item.result_key, source.sha256, source.path, source.upright, source.white, labels)
        told = [previews.VERSION, item.result_sha256, source.sha256, source.upright, source.white, *labels, *asked]
    etag = f'"{sha256(json.dumps(told).encode())}"'
    return _unchanged(etag) if known(request, etag) else _drawn(draw(made), etag)


def _no_image(item_id: int, state: ItemState) -> Conflict:
    return Conflict(f"Item {item_id} has no image: it is {state}.")


def _drawn(picture: Response, etag: str) -> Response:
    picture.headers.update(_ASK | {"ETag": etag})
    return picture


def _unchanged(etag: str) -> Response:
    return Response(status_code=304, headers=_ASK | {"ETag": etag})
