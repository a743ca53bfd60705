"""Masks, looked at before a job is paid for."""

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from PIL.Image import Resampling
from pydantic import Field

from api.deps import Caller, SessionsDep, StorageDep
from api.pictures import png, veiled
from api.problems import documented
from shared import datasets, images, priors
from shared.canvas import Canvas
from shared.errors import Invalid
from shared.masks import AnyMask
from shared.operators import Inpaint
from shared.plan import USELESS, Labels, is_copied, keep_mask, useless
from shared.reading import ID
from shared.sources import uploaded_mask
from shared.spec import MAX_SEED, ExpansionSpec, PresetName, Sampler, Text, Unlabelled, item_seed, resolve
from shared.storage import source_key
from shared.strict import Strict

router = APIRouter(prefix="/v1/masks", tags=["masks"])


class MaskPreview(Strict):
    """A mask to be drawn for an image: the fields of an ExpansionSpec that decide it."""

    dataset_id: Annotated[str, Field(description="The dataset, which must be `ready`.", pattern=ID)]
    image_id: int = Field(ge=0, lt=2**63, description="The image.")
    mask: AnyMask = Field(description="The mask, as in `operator.mask`.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="The job's seed.")
    variant: int = Field(1, ge=1, le=100, description="Which of the job's variants of the image.")
    prior: Text = Field("builtin", min_length=1, max_length=100, description="Name of an installed prior.")
    canvas: Canvas = Field(Canvas(), description="The picture the model works on.")
    preset: PresetName = Field(
        "balanced", description="As `sampler.preset`; it decides the size of a canvas that was left open."
    )
    unlabelled: Unlabelled = Field("skip", description="What is done with an image without a label.")
    size: Literal["canvas", "source"] = Field(
        "canvas", description="How large the answer is: as the model sees the image, or as it was uploaded."
    )


@router.post(
    "/preview",
    summary="Look at a mask",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "The image; what is hidden lies under a blue veil."},
        **documented(400, 404, 409, 413, 422),
    },
)
def preview_mask(asked: MaskPreview, caller: Caller, sessions: SessionsDep, storage: StorageDep) -> Response:
    """The mask that a job with these fields uses for this variant of the image, at no cost.

    A mask that keeps or hides everything is a 422, as its item would fail.
    """
    with sessions.read() as session:
        dataset = datasets.get_ready(session, caller, asked.dataset_id)
        image = datasets.get_image(session, caller, asked.dataset_id, asked.image_id)
        prior = priors.find(session, caller, asked.prior)
        white, images_side = dataset.white, datasets.long_side(session, dataset)
    spec = ExpansionSpec(
        dataset_id=asked.dataset_id,
        operator=Inpaint(mask=asked.mask),
        prior=asked.prior,
        sampler=Sampler(preset=asked.preset),
        canvas=asked.canvas,
        unlabelled=asked.unlabelled,
    )
    priors.check_canvas(prior, spec.canvas.long_side)
    resolved = resolve(
        spec,
        prior_sha256=prior.sha256,
        native_size=prior.native_size,
        multiple=prior.multiple,
        images_side=images_side,
    )
    labels, seed = Labels(image.boxes, image.outlines), item_seed(asked.seed, image.sha256, asked.variant)
    uploaded = uploaded_mask(storage, resolved, image.mask_sha256, image.path)
    keep, p = keep_mask(resolved, labels, image.width, image.height, seed, uploaded)
    if (kind := useless(keep, p)) and not is_copied(resolved, labels):
        raise Invalid(USELESS[kind])
    data = storage.read(source_key(image.sha256))
    picture = images.shown(images.open_image(data, image.path, upright=image.upright), white)
    if asked.size == "source":
        return png(veiled(picture, images.at_source_size(keep, p)))
    small = picture.resize((p.width, p.height), Resampling.BICUBIC)
    return png(veiled(small, keep[p.top : p.top + p.height, p.left : p.left + p.width]))
