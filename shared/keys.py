"""API keys: who may speak to the service, and for which project.

A project is a name: it owns what is made with its keys, and each key is a person or script in it. A key is told once;
what is kept is its hash. In a browser a key is exchanged for a cookie, a token of its own that ends with the key.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.orm import Session

from shared import leases
from shared.db import now
from shared.errors import Invalid, NotFound, Unauthorized
from shared.models import ApiKey, SignIn

LOCAL = "local"
"""The project of those who come without a key, where that is allowed."""
PREFIX = "rg_"
SIGN_IN_SECONDS = 12 * 3600.0
"""So long a browser stays signed in: a working day."""
NOTE_SECONDS = 60.0
"""Use of a key is written down no more often than this."""

_PROJECT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ID_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose key it is that came with a request."""

    key_id: str
    project: str
    name: str
    expires_at: float | None
    stale: bool
    """Whether its use is to be noted: that was not done within the last minute."""


def create(session: Session, project: str, name: str, seconds: float | None = None) -> tuple[ApiKey, str]:
    """Write the row of a new key, which counts for so many seconds, or for ever. Returns it and the key itself.

    Raises:
        Invalid: the project or the name is none that can be used.
    """
    if not _PROJECT.fullmatch(project):
        raise Invalid(f"{project!r} is no name of a project: lower-case letters, digits, `.`, `_` and `-`, at most 63.")
    if not (0 < len(name) <= 100 and name.isprintable()):
        raise Invalid("A key needs the name of the person or script that it is for: at most 100 printable characters.")
    secret = secrets.token_hex(32)
    row = ApiKey(
        id=secret[:_ID_DIGITS],
        project=project,
        name=name,
        sha256=_sha256(PREFIX + secret),
        expires_at=None if seconds is None else now() + seconds,
    )
    session.add(row)
    session.flush()
    return row, PREFIX + secret


def listed(session: Session, project: str | None = None) -> Sequence[ApiKey]:
    """All keys, or those of a project, by project and age."""
    rows = select(ApiKey).order_by(ApiKey.project, ApiKey.created_at, ApiKey.id)
    return session.scalars(rows if project is None else rows.where(ApiKey.project == project)).all()


def state(session: Session, key: ApiKey) -> str:
    """`valid`, `expired` or `revoked`."""
    if key.revoked_at is not None:
        return "revoked"
    expired = key.expires_at is not None and key.expires_at <= (session.scalar(select(now())) or 0.0)
    return "expired" if expired else "valid"


def revoke(session: Session, key_id: str) -> ApiKey:
    """Let a key count no more, from the next request on; browsers that are signed in with it are signed out.

    Does nothing to one that was revoked before.

    Raises:
        NotFound: there is none of that id.
    """
    key = session.get(ApiKey, key_id.removeprefix(PREFIX)[:_ID_DIGITS])
    if key is None:
        raise NotFound(f"There is no key {key_id!r}; `regrow keys list` shows those there are.")
    wanted = update(ApiKey).where(ApiKey.id == key.id, ApiKey.revoked_at.is_(None)).values(revoked_at=now())
    leases.changed(session, wanted)
    session.execute(delete(SignIn).where(SignIn.key_id == key.id))
    session.refresh(key)
    return key


def any_valid(session: Session) -> bool:
    """Whether anybody could come in with a key."""
    return session.scalar(select(ApiKey.id).where(_valid()).limit(1)) is not None


def holder(session: Session, key: str) -> Holder:
    """Whose key it is.

    Raises:
        Unauthorized: it is none, or has expired, or was revoked.
    """
    return _holder(session, ApiKey.sha256 == _sha256(key))


def note_use(session: Session, key_id: str) -> None:
    """Write down that a key was used, unless that was done within the last minute."""
    old = or_(ApiKey.used_at.is_(None), ApiKey.used_at < now() - NOTE_SECONDS)
    session.execute(update(ApiKey).where(ApiKey.id == key_id, old).values(used_at=now()))


def sign_in(session: Session, holder: Holder) -> str:
    """Returns a token that speaks for the key, for a working day at most and never longer than the key itself."""
    session.execute(delete(SignIn).where(SignIn.expires_at <= now()))
    token = secrets.token_hex(32)
    session.add(SignIn(sha256=_sha256(token), key_id=holder.key_id, expires_at=now() + SIGN_IN_SECONDS))
    session.flush()
    return token


def signed_in(session: Session, token: str) -> Holder:
    """Whose token it is.

    Raises:
        Unauthorized: it is none, or its time is over, or that of its key, or either was taken back.
    """
    key_id = session.scalar(select(SignIn.key_id).where(SignIn.sha256 == _sha256(token), SignIn.expires_at > now()))
    if key_id is None:
        raise Unauthorized("You are not signed in any more. Sign in with your key again.")
    return _holder(session, ApiKey.id == key_id)


def sign_out(session: Session, token: str) -> None:
    """The token counts no more. Does nothing to one that did not."""
    session.execute(delete(SignIn).where(SignIn.sha256 == _sha256(token)))


def _holder(session: Session, which: ColumnElement[bool]) -> Holder:
    found = session.execute(select(ApiKey, now()).where(which)).one_or_none()
    if found is None:
        raise Unauthorized("This key is not known here. `regrow keys create` makes one.")
    key, at = found
    if key.revoked_at is not None:
        raise Unauthorized(f"The key {PREFIX}{key.id}… of {key.name} was revoked.")
    if key.expires_at is not None and key.expires_at <= at:
        raise Unauthorized(f"The key {PREFIX}{key.id}… of {key.name} has expired.")
    stale = key.used_at is None or key.used_at < at - NOTE_SECONDS
    return Holder(key.id, key.project, key.name, key.expires_at, stale)


def _valid() -> ColumnElement[bool]:
    return ApiKey.revoked_at.is_(None) & or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
