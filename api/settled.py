"""The items of a job in the order in which they were settled.

Transactions do not commit in the order of their times: an item may turn up among those that were settled before it.
Who asks what is new must look back `LATE` seconds, and meets some items again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.orm import Session, joinedload

from shared.db import now
from shared.models import Image, Item
from shared.states import ItemState

LATE = 20.0
"""Seconds within which a transaction that settles an item has surely ended."""
PAGE = 500

_FINAL = (ItemState.DONE, ItemState.FAILED, ItemState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Mark:
    """That an item was settled, and when, by the database's clock; and when that was read."""

    item_id: int
    settled_at: float
    read_at: float


def beginning(session: Session, job_id: str) -> tuple[float, list[Mark]]:
    """When an item of the job was settled last (0 if none was), and all that were in the last `LATE` seconds."""
    latest = session.scalar(select(func.max(Item.settled_at)).where(Item.job_id == job_id))
    return latest or 0.0, marks(session, job_id, now() - LATE)


def marks(session: Session, job_id: str, after: float | ColumnElement[float]) -> list[Mark]:
    """The items settled after a time, in no order. Cheap: nothing but the marks is read."""
    wanted = select(Item.id, Item.settled_at, now()).where(Item.job_id == job_id, Item.settled_at > after)
    return [Mark(item_id, cast(float, settled_at), read_at) for item_id, settled_at, read_at in session.execute(wanted)]


def named(session: Session, item_ids: Sequence[int]) -> Sequence[Item]:
    """Items by their ids, without those that were put back meanwhile."""
    return session.scalars(_settled().where(Item.id.in_(item_ids))).all()


def page(session: Session, job_id: str, after: tuple[float, int]) -> Sequence[Item]:
    """The next `PAGE` items of a job after a time and an item's id."""
    # The first condition says nothing new, but it is one that every database can look up in the index.
    beyond = (Item.settled_at >= after[0]) & (tuple_(Item.settled_at, Item.id) > after)
    return session.scalars(_settled().where(Item.job_id == job_id, beyond).limit(PAGE)).all()


def _settled() -> Select[Item]:
    source = joinedload(Item.image).load_only(Image.path, Image.split)
    told = source, joinedload(Item.verdict)
    return select(Item).where(Item.state.in_(_FINAL)).order_by(Item.settled_at, Item.id).options(*told)
