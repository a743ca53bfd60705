"""What a spec comes to on its dataset, before anything is written: which images, with which numbers, and what its owner
should know."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared import advice, datasets, priors, workers
from shared.advice import Source
from shared.errors import Fault, Invalid
from shared.models import Dataset, Image, Prior, white_of
from shared.spec import ExpansionSpec, ResolvedSpec, footprint_key, item_seed, resolve, work_key

_PART = 1000


@dataclass(frozen=True, slots=True)
class Proposal:
    """A spec that a job can be made of."""

    dataset: Dataset
    resolved: ResolvedSpec
    images: Sequence[Source]
    """Those to be expanded, in the order of their items."""
    warnings: list[str]


def of(session: Session, owner: str, spec: ExpansionSpec, prior: Prior, max_items: int) -> Proposal:
    """What a spec comes to.

    Raises:
        NotFound, Conflict, Invalid: the dataset is not there, not checked yet, or rejected.
        Invalid: the spec names a split the dataset does not have, or yields no item, or more than `max_items`; or no
            worker that is there has the memory for the prior, or for an image on its canvas.
    """
    dataset = datasets.get_ready(session, owner, spec.dataset_id)
    unknown = [split for split in spec.splits if split not in dataset.splits]
    if unknown:
        has = ", ".join(dataset.splits)
        detail = f"The dataset has no split {unknown[0]!r}. It has: {has}. `splits` (`--split`) names those to expand."
        raise Invalid(detail, [Fault("body.splits", detail)])
    priors.check_canvas(prior, spec.canvas.long_side)
    guide = priors.guide(session, owner, spec.sampler.guidance_vae, prior)
    resolved = resolve(
        spec,
        prior_sha256=prior.sha256,
        native_size=prior.native_size,
        multiple=prior.multiple,
        images_side=datasets.long_side(session, dataset),
        guide=guide,
    )
    priors.check_prompt(prior, resolved.conditioning)
    found = _sources(session, dataset, spec.splits)
    images = advice.chosen(spec, found)
    if not images:
        raise Invalid(
            f"There is nothing to expand: none of the {len(found)} images in {', '.join(spec.splits)} has a label."
        )
    advice.refuse(resolved, images)
    if spec.output.format not in ("same", dataset.format):
        stored = select(Image.path).where(Image.dataset_id == dataset.id, ~Image.upright)
        advice.refuse_conversion(spec.output.format, session.scalars(stored).all())
    if len(images) * spec.variants > max_items:
        raise Invalid(f"The job would make {len(images) * spec.variants} images; the limit is {max_items}.")
    said = _too_large(session, resolved) + advice.warnings(spec, resolved, found, images)
    said += _known_to_the_prior(session, dataset, prior)
    return Proposal(dataset, resolved, images, said)


def seed_and_key(spec: ExpansionSpec, resolved: ResolvedSpec, image: Source | Image, variant: int) -> tuple[int, str]:
    """Seed and work key of one variant of an image."""
    seed = item_seed(spec.seed, image.sha256, variant)
    return seed, key(resolved, image, variant, seed)


def key(resolved: ResolvedSpec, image: Source | Image, variant: int, seed: int) -> str:
    """The work key of one variant of an image."""
    return work_key(
        resolved,
        source_sha256=image.sha256,
        label_sha256=image.label_sha256,
        mask_sha256=image.mask_sha256,
        upright=image.upright,
        white=image.white,
        variant=variant,
        seed=seed,
    )


def _sources(session: Session, dataset: Dataset, splits: Sequence[str]) -> list[Source]:
    """The images of some splits, by their hashes, read in parts."""
    names = [name for name in Source.__slots__ if name != "white"]
    rows = session.execute(
        select(*(getattr(Image, name) for name in names))
        .where(Image.dataset_id == dataset.id, Image.split.in_(splits))
        .order_by(Image.sha256, Image.id)
        .execution_options(yield_per=_PART)
    )
    return [
        Source(**row | {"boxes": advice.flat(row["boxes"]), "white": white_of(row["mode"], dataset.white)})
        for row in map(dict, rows.mappings())
    ]


def _too_large(session: Session, resolved: ResolvedSpec) -> list[str]:
    """What the workers know of their memory."""
    long_side = workers.too_large(session, resolved.prior_sha256)
    if long_side == 0:
        raise Invalid(
            f"prior: no worker that is there has the memory for {resolved.prior!r}. Choose a smaller one, or start a "
            "worker on a device with more."
        )
    largest = workers.largest(session, footprint_key(resolved))
    if largest is not None and largest < resolved.long_side:
        fits = (
            f"The largest that fits is {largest} px: choose a smaller canvas.long_side"
            if largest
            else "None fits: choose a smaller prior"
        )
        detail = (
            f"No worker that is there has the memory for an image of {resolved.long_side} px with the prior "
            f"{resolved.prior!r} and this sampler. {fits}, or start a worker on a device with more."
        )
        raise Invalid(detail, [Fault("body.canvas.long_side", detail)])
    if long_side is None or long_side > resolved.long_side:
        return []
    return [
        f"An image of {long_side} px with this prior did not fit the memory of any worker that is there: these, of "
        f"{resolved.long_side} px, may well fail. Choose a smaller `canvas.long_side`."
    ]


def _known_to_the_prior(session: Session, dataset: Dataset, prior: Prior) -> list[str]:
    learned = priors.trained_on(session, prior)
    if not learned:
        return []
    rows = session.execute(select(Image.split, Image.sha256).where(Image.dataset_id == dataset.id))
    return advice.known_to_the_prior([(split, sha256) for split, sha256 in rows], learned)
