"""The life of a training as its owner sees it: asked for, cancelled, taken up again, deleted. What workers do is in
`stretches`.

A training ends as an installed prior, which outlives it.
"""

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator
from sqlalchemy import ColumnElement, literal, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from shared import datasets, leases, priors, stretches, trash, workers
from shared.db import now
from shared.errors import Conflict, Fault, Invalid, KeyReused, NotFound
from shared.models import Dataset, Fetch, Image, Prior, Training
from shared.queue import Queue
from shared.recipes import MIN_PICTURES, TrainingSettings
from shared.spec import Text
from shared.states import LIVE_FETCH, LIVE_TRAINING, TrainingState, Wait
from shared.storage import prior_key, training_key
from shared.strict import digest

_MOST_NAMED = 20
_LIVE = Training.state.in_(LIVE_TRAINING)


class TrainingSpec(TrainingSettings):
    """A request to train a prior."""

    dataset_id: Text = Field(description="The dataset, which must be `ready`.", min_length=1, max_length=64)
    name: str = Field(
        description="What jobs will call the prior: lower-case letters, digits, `.`, `_` and `-`.",
        pattern=priors.NAME,
    )
    init: Text | None = Field(
        None, min_length=1, max_length=100, description="Name of an installed prior to start from."
    )
    licence: Text = Field(
        "", max_length=500, description="Whose the images are and what may be done with them, for the prior's card."
    )

    @model_validator(mode="after")
    def _starts_from_something(self) -> Self:
        if self.init is None and self.adapts:
            raise ValueError(f"init: the recipe {self.recipe} needs a Stable Diffusion prior to start from")
        if self.init is None and not self.autoencoder_steps:
            raise ValueError("init: with autoencoder_steps 0, a prior is needed whose autoencoder is kept")
        return self

    @property
    def settings(self) -> TrainingSettings:
        """What of it the trainer is told."""
        return TrainingSettings.model_validate(self.model_dump(include=set(TrainingSettings.model_fields)))


def get(session: Session, owner: str, training_id: str) -> Training:
    """The training, if it is the owner's.

    Raises:
        NotFound: it is not there, or not theirs.
    """
    training = session.get(Training, training_id)
    if training is None or training.owner != owner:
        raise NotFound(f"There is no training {training_id!r}.")
    return training


def create(session: Session, owner: str, spec: TrainingSpec, key: str | None = None) -> Training:
    """Write the row of a training, which a worker may take at once.

    With a `key`, the same request under the same key gives the training it gave before. Of two requests at the same
    moment with one key or for one name, the second raises SQLAlchemy's IntegrityError, and finds out why when it is
    made again.

    Raises:
        NotFound, Conflict, Invalid: the dataset is not there, not checked yet, or rejected.
        Conflict: the name belongs to a prior, or to a training that is not over.
        Invalid: the prior to start from is not there, or the images cannot be used.
        KeyReused: the key belongs to another request.
    """
    if earlier := sent_before(session, owner, spec, key):
        return earlier
    dataset = datasets.get_ready(session, owner, spec.dataset_id)
    # Nobody deletes it, nor the prior it starts from, before this is written.
    session.execute(select(Dataset.id).where(Dataset.id == dataset.id).with_for_update(read=True))
    init = priors.find(session, owner, spec.init, hold=True) if spec.init else None
    learned = stretches.train_images(session, dataset)
    _refuse(spec.settings, dataset, learned)
    if init is not None:
        _refuse_to_begin(spec, init)
    _check_no_other(session, owner, spec.name)
    training = Training(
        owner=owner,
        name=spec.name,
        dataset_id=dataset.id,
        key=key,
        request_sha256=digest(spec),
        settings=spec.settings.model_dump(mode="json"),
        init=init.name if init else None,
        init_sha256=init.sha256 if init else None,
        licence=spec.licence,
        images=len(learned),
    )
    session.add(training)
    session.flush()
    priors.check_free(session, training.owner, training.name, training.id)
    return training


def sent_before(session: Session, owner: str, spec: TrainingSpec, key: str | None) -> Training | None:
    """The training that the same request under the same key has made, if one has. Raises KeyReused."""
    known = session.scalar(select(Training).where(Training.owner == owner, Training.key == key)) if key else None
    if known is not None and known.request_sha256 != digest(spec):
        raise KeyReused(f"The Idempotency-Key {key!r} was sent with another request before. Use a new key.")
    return known


def waits_for(session: Session, some: Sequence[Training]) -> dict[str, Wait]:
    """What those of some trainings wait for, by their ids, that are `pending` for more than a matter of their turn."""
    pending = [training for training in some if training.state == TrainingState.PENDING]
    if not pending:
        return {}
    missing = workers.missing(session).get(Queue.GPU)
    known = priors.hashes(session)
    found: dict[str, Wait | None] = {}
    for training in pending:
        start = known(training.owner, training.init) if training.init else None
        if training.init and start is None:
            found[training.id] = Wait.PRIOR_GONE
        elif start != training.init_sha256:
            found[training.id] = Wait.PRIOR_CHANGED
        else:
            found[training.id] = missing
    return {training_id: wait for training_id, wait in found.items() if wait}


def cancel(session: Session, training: Training) -> None:
    """End a training; a worker that is at it stops when it next looks. Does nothing to one that is over."""
    ended = {"state": TrainingState.CANCELLED, "finished_at": now(), "yielded_at": None}
    _change(session, training, _LIVE, token=None, lease_until=None, **ended)


def retry(session: Session, training: Training) -> None:
    """Let a failed or cancelled training go on from its last checkpoint. Does nothing to any other.

    Raises:
        Conflict: the name belongs to a prior by now, or to another training that is not over. Of two retries of one
            name at the same moment, the second raises SQLAlchemy's IntegrityError.
    """
    ended = Training.state.in_([TrainingState.FAILED, TrainingState.CANCELLED])
    if training.state not in (TrainingState.FAILED, TrainingState.CANCELLED):
        return
    _check_no_other(session, training.owner, training.name)
    fresh = {"attempts": 0, "lapses": 0, "error": None, "finished_at": None}
    _change(session, training, ended, state=TrainingState.PENDING, **fresh)
    priors.check_free(session, training.owner, training.name, training.id)


def delete(session: Session, training: Training) -> None:
    """Remove a training, whatever its state, with its checkpoints; a worker that is at it stops. The prior it has
    made stays."""
    for key in (training_key(training.id), prior_key(training.id)):
        trash.throw(session, select(literal(key)))
    session.execute(delete_rows(Training).where(Training.id == training.id))
    session.expunge(training)


def delete_of(session: Session, dataset_id: str) -> None:
    """Remove the trainings on a dataset; the priors they have made stay.

    Raises:
        Conflict: one of them is not over.
    """
    made = session.scalars(select(Training).where(Training.dataset_id == dataset_id)).all()
    for training in made:
        if training.state in LIVE_TRAINING:
            raise Conflict(f"The prior {training.name!r} is being trained on this dataset. Cancel that first.")
        delete(session, training)


def _refuse(settings: TrainingSettings, dataset: Dataset, images: list[Image]) -> None:
    """Raises Invalid if the rows tell that a training on them is certain to fail."""
    if not images:
        raise Invalid(f"The dataset has no split `train`, and only that is learned from: {', '.join(dataset.splits)}.")
    if len(images) < MIN_PICTURES:
        raise Invalid(
            f"{len(images)} different images in the split `train` are too few to train on; {MIN_PICTURES} are needed."
        )
    labelled = sum(bool(image.boxes) for image in images)
    if settings.recipe == "textual_inversion" and labelled < MIN_PICTURES:
        raise Invalid(
            f"{labelled} different images in the split `train` have a label, too few to learn words for classes from; "
            f"{MIN_PICTURES} are needed."
        )
    small = [image for image in images if max(image.width, image.height) < settings.crop]
    if small:
        faults = [Fault(image.path, f"{image.width} x {image.height} pixels") for image in small[:_MOST_NAMED]]
        raise Invalid(
            f"{len(small)} of {len(images)} images are smaller than the crop of {settings.crop} px. Leave them out, or "
            "train with a smaller crop.",
            faults,
        )


def _refuse_to_begin(spec: TrainingSpec, init: Prior) -> None:
    """Raises Invalid if the row of the prior to begin with tells that the recipe cannot."""
    if spec.adapts and init.factor is not None and not init.prompts:
        raise Invalid(f"init: the recipe {spec.recipe} needs a Stable Diffusion prior, and {init.name!r} is none.")
    if not spec.adapts and init.prompts:
        raise Invalid(
            f"init: {init.name!r} is a Stable Diffusion, which the recipe {spec.recipe} cannot go on with. `lora` and "
            "`textual_inversion` can."
        )


def _check_no_other(session: Session, owner: str, name: str) -> None:
    other = session.scalar(select(Training.id).where(Training.owner == owner, Training.name == name, _LIVE))
    if other:
        raise Conflict(f"A prior named {name!r} is being trained already (training {other}). Choose another name.")
    coming = select(Fetch.id).where(Fetch.owner == owner, Fetch.name == name, Fetch.state.in_(LIVE_FETCH))
    if fetch := session.scalar(coming.limit(1)):
        raise Conflict(f"A prior named {name!r} is being fetched (fetch {fetch}). Choose another name.")


def _change(session: Session, training: Training, which: ColumnElement[bool], **values: object) -> None:
    leases.changed(session, update(Training).where(Training.id == training.id, which).values(**values))
    session.refresh(training)
