"""The items of a job: each a new image, made or to be made."""

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from PIL import Image as Picture
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from api import schemas
from api.deps import Caller, SessionsDep, StorageDep
from api.downloads import answers, download
from api.pages import AskedDep, Page
from api.pictures import png
from api.problems import documented
from api.routes import HexId, Number
from shared import items, jobs
from shared.errors import Conflict
from shared.images import at_source_size
from shared.models import Image, Item
from shared.plan import Labels, keep_mask
from shared.sources import uploaded_mask
from shared.spec import ResolvedSpec
from shared.states import ItemState

router = APIRouter(prefix="/v1/jobs/{job_id}/items", tags=["items"])


@router.get("", summary="List a job's items", responses=documented(404, 422))
def list_items(
    job_id: HexId,
    caller: Caller,
    sessions: SessionsDep,
    asked: AskedDep,
    state: Annotated[ItemState | None, Query(description="Only those in this state.")] = None,
) -> Page[schemas.Item]:
    """In the order in which workers take them."""
    with sessions.read() as session:
        steps = ResolvedSpec.model_validate(jobs.get(session, caller, job_id).resolved).steps
        source = joinedload(Item.image).load_only(Image.path, Image.split)
        wanted = select(Item).where(Item.job_id == job_id).options(source)
        if state is not None:
            wanted = wanted.where(Item.state == state)
        found = asked.by_number(session, wanted, Item)
        return asked.page(found, lambda row: schemas.Item.from_row(row, steps))


@router.get("/{item_id}", summary="An item", responses=documented(404, 422))
def get_item(job_id: HexId, item_id: Number, caller: Caller, sessions: SessionsDep) -> schemas.Item:
    """How far it is, and if it failed, why."""
    with sessions.read() as session:
        item = items.get(session, caller, job_id, item_id)
        return schemas.Item.from_row(item, ResolvedSpec.model_validate(item.job.resolved).steps)


@router.get(
    "/{item_id}/image",
    summary="The new image",
    response_class=Response,
    responses=answers("image/*", 409),
)
def get_item_image(
    job_id: HexId, item_id: Number, caller: Caller, sessions: SessionsDep, storage: StorageDep, request: Request
) -> Response:
    """As it is in the archive."""
    with sessions.read() as session:
        item = items.get(session, caller, job_id, item_id)
        state, key, sha256 = item.state, item.result_key, item.result_sha256
    if key is None or sha256 is None:
        raise Conflict(f"Item {item_id} has no image: it is {state}.")
    return download(request, storage, key, sha256)


@router.get(
    "/{item_id}/mask",
    summary="What of the source image is kept",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "White is kept, black is regrown."},
        **documented(404, 409, 422),
    },
)
def get_item_mask(
    job_id: HexId, item_id: Number, caller: Caller, sessions: SessionsDep, storage: StorageDep
) -> Response:
    """The mask at the size of the source image. It can be asked for before the item is made.

    409 where the job's operator hides no pixels, such as a blur.
    """
    with sessions.read() as session:
        item = items.get(session, caller, job_id, item_id)
        seed, source, resolved = item.seed, item.image, ResolvedSpec.model_validate(item.job.resolved)
        labels, size = Labels(source.boxes, source.outlines), (source.width, source.height)
        name, mask_sha256 = source.path, source.mask_sha256
    keep, placement = keep_mask(resolved, labels, *size, seed, uploaded_mask(storage, resolved, mask_sha256, name))
    return png(Picture.fromarray(at_source_size(keep, placement).astype(np.uint8) * 255))
