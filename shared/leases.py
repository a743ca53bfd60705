"""Leased work: who holds the token before `lease_until`, by the database's clock, holds the work.

Datasets to check, archives to build, priors to train or to fetch and webhooks to deliver are leased one by one, by the
functions here; items in batches, in `items`.
"""

import secrets
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Integer, Update, or_, select, update
from sqlalchemy import cast as cast_sql
from sqlalchemy.orm import InstrumentedAttribute, Session

from shared.db import now
from shared.models import Archive, Dataset, Fetch, Job, Training, Webhook

MAX_ATTEMPTS = 3
"""So often an item or a training may raise before it has failed."""
MAX_LAPSES = 10
"""So often a worker may fail or vanish with something before it is given up."""
GIVEN_UP = f"it was tried {MAX_LAPSES} times, and each time its worker failed or vanished; the worker's log says more"

Leasable = type[Dataset | Archive | Fetch | Training | Webhook]


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that is ours for now: its id, and the token that proves it."""

    id: str
    token: str


def new_token() -> str:
    return secrets.token_hex(8)


def free(model: Leasable) -> ColumnElement[bool]:
    """True for work nobody holds."""
    return or_(model.lease_until.is_(None), model.lease_until < now())


def claim(session: Session, model: Leasable, todo: ColumnElement[bool], seconds: float, **values: Any) -> Claim | None:
    """Take the oldest row for which `todo` holds and which nobody holds, and write `values` to it."""
    key, token = _key(model), new_token()
    oldest = select(key).where(todo, free(model)).order_by(model.created_at).limit(1).with_for_update(skip_locked=True)
    # A token that is still there belongs to a worker that vanished.
    lapses = model.lapses + cast_sql(model.token.is_not(None), Integer)
    taken = session.scalar(
        update(model)
        .where(key == oldest.scalar_subquery())
        .values(token=token, lease_until=now() + seconds, lapses=lapses, **values)
        .returning(key)
        .execution_options(synchronize_session=False)
    )
    return Claim(taken, token) if taken else None


def ids(session: Session, model: Leasable, claim: Claim) -> dict[str, str | None]:
    """What lines of the log about the work are to carry."""
    asked = Job if issubclass(model, Archive | Webhook) else model
    row = session.execute(select(asked.owner, asked.request_id).where(asked.id == claim.id)).one_or_none()
    if row is None:
        return {}
    return {asked.__tablename__: claim.id, "project": row.owner, "request": row.request_id}


def renew(session: Session, model: Leasable, token: str, seconds: float) -> bool:
    """Hold on to everything under `token` for another `seconds`; False if nothing is left under it.

    A lease that ran out but was not swept can be renewed: nobody else has the work.
    """
    return changed(session, update(model).where(model.token == token).values(lease_until=now() + seconds)) > 0


def settle(session: Session, model: Leasable, claim: Claim, **values: Any) -> bool:
    """Write `values` and let go; False, and nothing written, if the claim was lost meanwhile."""
    mine = (_key(model) == claim.id) & (model.token == claim.token)
    return changed(session, update(model).where(mine).values(token=None, lease_until=None, **values)) == 1


def release(session: Session, model: Leasable, claim: Claim) -> bool:
    """Let go of work that could not be done for no fault of its own: nothing counts against it."""
    return settle(session, model, claim)


def waiting(session: Session, model: Leasable, todo: ColumnElement[bool]) -> bool:
    """Whether there is a row for which `todo` holds and which nobody holds."""
    return session.scalar(select(_key(model)).where(todo, free(model)).limit(1)) is not None


def give_up(session: Session, model: Leasable, todo: ColumnElement[bool], **values: Any) -> int:
    """Write `values` to rows that ended `MAX_LAPSES` workers; returns how many."""
    worn = update(model).where(todo, model.lapses >= MAX_LAPSES, free(model))
    return changed(session, worn.values(token=None, lease_until=None, **values))


def changed(session: Session, statement: Update) -> int:
    """Run a conditional UPDATE; returns the number of rows it changed."""
    result = session.execute(statement.execution_options(synchronize_session=False))
    return cast("CursorResult[Any]", result).rowcount


def _key(model: Leasable) -> InstrumentedAttribute[str]:
    return model.job_id if issubclass(model, Archive | Webhook) else model.id
