"""Who did what: a row for each change, written with it, and for each download.

Rows are only added, and outlive what they are about; they hold no names of files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from shared.db import now
from shared.models import AuditEntry

_THE_SAME = 3600.0
"""Seconds within which a download of the same thing counts as the same: it comes in parts, and pages show it again."""


class Action(StrEnum):
    UPLOADED = "uploaded"
    CREATED = "created"
    DOWNLOADED = "downloaded"
    JUDGED = "judged"
    PAUSED = "paused"
    RESUMED = "resumed"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    UPGRADED = "upgraded"
    FORGOT = "forgot"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: `name` of the key's holder, in the project `owner`."""

    owner: str
    name: str


def note(session: Session, actor: Actor, action: Action, thing: str, count: int = 1) -> None:
    """Note that somebody did something to a thing, given by its path in the API, or to `count` things in it."""
    session.add(AuditEntry(owner=actor.owner, by=actor.name, action=action, object=thing, count=count))


def downloaded_lately(session: Session, actor: Actor, thing: str) -> bool:
    """Whether that they download it is noted already."""
    same = select(AuditEntry.id).where(
        AuditEntry.owner == actor.owner,
        AuditEntry.object == thing,
        AuditEntry.by == actor.name,
        AuditEntry.action == Action.DOWNLOADED,
        AuditEntry.created_at > now() - _THE_SAME,
    )
    return session.scalar(same.limit(1)) is not None


def entries(owner: str, thing: str | None, actions: Sequence[Action]) -> Select[AuditEntry]:
    """What was noted in a project: of all things, or of one and what is in it; all actions, or some."""
    found = select(AuditEntry).where(AuditEntry.owner == owner)
    if thing is not None:
        inside = AuditEntry.object.startswith(f"{thing.rstrip('/')}/", autoescape=True)
        found = found.where(or_(AuditEntry.object == thing.rstrip("/"), inside))
    return found.where(AuditEntry.action.in_(actions)) if actions else found
