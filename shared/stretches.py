"""A stretch of a training: what one worker does of it, from its claim until it is done, fails, or hands it back.

Every change of state is one conditional UPDATE. What belongs to a training in storage lies in a folder of its own, and
whoever takes it next goes on from the last checkpoint there.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, case, literal, or_, select, update
from sqlalchemy.orm import Session, joinedload

from shared import leases, priors, trash
from shared.db import now
from shared.formats import places
from shared.leases import MAX_ATTEMPTS, MAX_LAPSES, Claim
from shared.models import Dataset, Image, Prior, Training
from shared.recipes import TrainingSettings
from shared.states import LIVE_TRAINING, TrainingState
from shared.storage import training_key

TODO = Training.state.in_(LIVE_TRAINING) & (Training.lapses < MAX_LAPSES)
# Since it made way for jobs, as much time has passed as it had before.
_RESTED = or_(Training.yielded_at.is_(None), now() - Training.yielded_at >= Training.yielded_at - Training.claimed_at)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to learn from."""

    path: str
    sha256: str
    upright: bool
    classes: tuple[str, ...] = ()
    """Those it shows."""


@dataclass(frozen=True, slots=True)
class Work:
    """A training as a worker needs it, free of the database."""

    claim: Claim
    name: str
    settings: TrainingSettings
    init: str | None
    init_sha256: str | None
    dataset: str
    licence: str
    white: int
    pictures: tuple[Picture, ...]
    ids: dict[str, str | None]
    """What lines of the log about it are to carry."""


@dataclass(frozen=True, slots=True)
class Noted:
    """How far a training is."""

    stage: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    step_seconds: float | None = None


def claim(session: Session, worker: str, lease: float, *, hashes: Collection[str], jobs_wait: bool) -> Work | None:
    """Take the oldest training that waits.

    Args:
        hashes: those of the priors that the worker has; only what starts from one of them, or from none, is taken.
        jobs_wait: whether items wait that the worker could make: one that made way for such stays away as long as it
            was at work before.
    """
    todo = TODO & or_(Training.init_sha256.is_(None), Training.init_sha256.in_(hashes))
    started = {"state": TrainingState.RUNNING, "worker": worker, "claimed_at": now(), "yielded_at": None}
    taken = leases.claim(session, Training, todo & _RESTED if jobs_wait else todo, lease, **started)
    if taken is None:
        return None
    row = session.get_one(Training, taken.id, options=[joinedload(Training.dataset)])
    return Work(
        claim=taken,
        name=row.name,
        settings=TrainingSettings.model_validate(row.settings),
        init=row.init,
        init_sha256=row.init_sha256,
        dataset=row.dataset.name,
        licence=row.licence,
        white=row.dataset.white,
        ids=leases.ids(session, Training, taken),
        pictures=tuple(_picture(row.dataset, image) for image in train_images(session, row.dataset)),
    )


def _picture(dataset: Dataset, image: Image) -> Picture:
    shown = sorted({int(index) for index, *_ in image.boxes})
    return Picture(image.path, image.sha256, image.upright, tuple(dataset.classes[index] for index in shown))


def renew(session: Session, claim: Claim, noted: Noted, lease: float, *, checkpointed: bool = False) -> bool:
    """Hold it for another `lease` seconds and note how far it is; False when the worker should stop.

    After a checkpoint, workers that vanished before it are forgotten: they kept nobody from getting on.
    """
    # What is not known yet leaves what an earlier worker noted.
    known = {name: value for name, value in asdict(noted).items() if value is not None} if noted.steps else {}
    forgiven = {"lapses": 0} if checkpointed else {}
    renewed = update(Training).where(_held(claim)).values(lease_until=now() + lease, **known, **forgiven)
    return leases.changed(session, renewed) == 1


def finish(session: Session, work: Work, prior: Prior) -> bool:
    """It is `done`, and the prior installed; False if the claim was lost meanwhile, and then nothing is written.

    Raises:
        Conflict: a prior of that name was installed meanwhile by other means.
    """
    done = {"state": TrainingState.DONE, "finished_at": now(), "step": Training.steps, "error": None}
    if not leases.settle(session, Training, work.claim, **done):
        return False
    prior.owner = session.scalars(select(Training.owner).where(Training.id == work.claim.id)).one()
    priors.check_free(session, prior.owner, work.name, work.claim.id)
    session.add(prior)
    trash.throw(session, select(literal(training_key(work.claim.id, "work/"))))
    return True


def fail(session: Session, claim: Claim, kind: str, detail: str, *, final: bool) -> bool:
    """It raised. It goes on from its last checkpoint, unless that is hopeless (`final`) or was its last attempt."""
    over = Training.attempts + 1 >= (1 if final else MAX_ATTEMPTS)
    return leases.settle(
        session,
        Training,
        claim,
        state=case((over, TrainingState.FAILED), else_=TrainingState.PENDING),
        finished_at=case((over, now())),
        attempts=Training.attempts + 1,
        error={"type": kind, "detail": detail},
    )


def hand_back(session: Session, claim: Claim, *, made_way: bool = False) -> bool:
    """Let go of it unharmed; `made_way`: because items of jobs wait."""
    yielded = {"yielded_at": now()} if made_way else {}
    return leases.settle(session, Training, claim, state=TrainingState.PENDING, **yielded)


def sweep(session: Session) -> int:
    """Free what vanished workers held, and give up on what ends its workers; returns how many."""
    lost = (Training.state == TrainingState.RUNNING) & (Training.lease_until < now())
    worn = Training.lapses + 1 >= MAX_LAPSES
    gone = {"type": "worker_lost", "detail": leases.GIVEN_UP}
    values = {
        "state": case((worn, TrainingState.FAILED), else_=TrainingState.PENDING),
        "finished_at": case((worn, now())),
        "lapses": Training.lapses + 1,
        "error": case((worn, literal(gone, Training.error.type)), else_=Training.error),
    }
    return leases.changed(session, update(Training).where(lost).values(token=None, lease_until=None, **values))


def waiting(session: Session) -> bool:
    """Whether a training waits and nobody is at it."""
    return leases.waiting(session, Training, TODO)


def train_images(session: Session, dataset: Dataset) -> list[Image]:
    """Those of the train split, each picture once, in an order that is always the same."""
    train = [split for split in dataset.splits if places.role(split) == "train"]
    columns = select(Image).where(Image.dataset_id == dataset.id, Image.split.in_(train))
    found = session.scalars(columns.order_by(Image.sha256, Image.id)).all()
    return list({image.sha256: image for image in found}.values())


def _held(claim: Claim) -> ColumnElement[bool]:
    return (Training.id == claim.id) & (Training.token == claim.token) & (Training.state == TrainingState.RUNNING)
