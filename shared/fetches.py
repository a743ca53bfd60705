"""The life of a fetch as its owner sees it: asked for, watched, cancelled, taken up again, deleted. What workers do is
in `hauls`.

A fetch brings a prior from a hub; it ends as an installed prior, which outlives it.
"""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator
from sqlalchemy import ColumnElement, literal, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from shared import leases, priors, trash, workers
from shared.db import now
from shared.errors import Conflict, Fault, Invalid, NotFound
from shared.models import Fetch, Prior, Training
from shared.queue import Queue
from shared.settings import Settings
from shared.spec import Text
from shared.states import LIVE_FETCH, LIVE_TRAINING, FetchState, Wait
from shared.storage import fetch_key, prior_key
from shared.strict import Strict

_LIVE = Fetch.state.in_(LIVE_FETCH)
_COMMIT = r"^[0-9a-f]{40}$"


class FetchSpec(Strict):
    """A request to fetch a prior from a hub."""

    repo: Text = Field(
        description="The repository, as ORG/NAME.",
        max_length=193,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}$",
    )
    revision: Text = Field(
        description="The commit of it, 40 hex digits: a branch or a tag may be another model tomorrow.",
        max_length=200,
        json_schema_extra={"pattern": _COMMIT},
    )
    file: Text | None = Field(
        None,
        max_length=300,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. ()/-]*\.safetensors$",
        description="The file of the repository that holds the whole model; left out: it is in the diffusers layout.",
    )
    architecture: Literal["sd1", "sd2", "sd2-base", "xl"] | None = Field(
        None, description="What a `file` is; left out: found out."
    )
    variant: Literal["fp16"] | None = Field(
        None, description="`fp16`: take the smaller weights where there are some. All is computed in float32 anyway."
    )

    @field_validator("revision")
    @classmethod
    def _is_a_commit(cls, value: str) -> str:
        if not re.fullmatch(_COMMIT, value):
            raise ValueError(
                f"{value!r} is no commit, and a branch or a tag may be another model tomorrow. Give the 40 hex digits "
                "that the repository's page shows under `Files`, `History`, or that `git ls-remote "
                "https://HUB/ORG/NAME` prints before the branch"
            )
        return value

    @property
    def options(self) -> dict[str, str | None]:
        """Which of the repository's files are wanted."""
        return {"file": self.file, "architecture": self.architecture, "variant": self.variant}


def get(session: Session, owner: str, fetch_id: str) -> Fetch:
    """The fetch, if it is the owner's.

    Raises:
        NotFound: it is not there, or not theirs.
    """
    fetch = session.get(Fetch, fetch_id)
    if fetch is None or fetch.owner != owner:
        raise NotFound(f"There is no fetch {fetch_id!r}.")
    return fetch


def create(session: Session, owner: str, name: str, spec: FetchSpec, settings: Settings) -> tuple[Fetch, bool]:
    """The fetch of a prior under a name, which a worker may take at once, and whether this request changed anything.

    The same request again gives the same fetch; one that failed or was cancelled goes on with what is here. Of two
    requests for one name at the same moment, the second raises SQLAlchemy's IntegrityError, and finds out why when it
    is made again.

    Raises:
        Invalid: the name is none, or the operator allows no such fetch.
        Conflict: the name belongs to a prior, or to a training or another fetch that is not over.
    """
    if not re.fullmatch(priors.NAME, name):
        said = f"{name!r} is no name of a prior: lower-case letters, digits, `.`, `_` and `-`."
        raise Invalid(said, [Fault("path.name", said)])
    earlier = _asked_before(session, owner, name, spec)
    if earlier is not None and _stands(session, earlier):
        return earlier, False
    check_allowed(spec.repo, settings)
    _check_no_other(session, owner, name)
    if earlier is not None and earlier.state != FetchState.DONE:
        ended = Fetch.state.in_([FetchState.FAILED, FetchState.CANCELLED])
        fresh = {"attempts": 0, "lapses": 0, "error": None, "finished_at": None, "next_at": now()}
        _change(session, earlier, ended, state=FetchState.PENDING, **fresh)
        fetch = earlier
    else:
        fetch = Fetch(owner=owner, name=name, repo=spec.repo, revision=spec.revision, options=spec.options)
        session.add(fetch)
        session.flush()
    priors.check_free(session, owner, name, fetch.id)
    return fetch, True


def check_allowed(repo: str, settings: Settings) -> None:
    """Raises Invalid, saying what an operator can do, where nothing may be fetched from the repository."""
    if settings.offline:
        said = (
            "This installation is offline (REGROW_OFFLINE). Carry the folder over by hand, and make it known with "
            "`regrow priors add` on the server."
        )
    elif not settings.may_fetch(repo):
        said = (
            f"This installation fetches nothing from {repo}: its operator has to name it in REGROW_HUB_ALLOW, or carry "
            "the folder over by hand and make it known with `regrow priors add` on the server."
        )
    else:
        return
    raise Invalid(said, [Fault("body.repo", said)])


def waits_for(session: Session, some: Sequence[Fetch]) -> dict[str, Wait]:
    """What those of some fetches wait for, by their ids, that are `pending` for more than a matter of their turn."""
    pending = [fetch.id for fetch in some if fetch.state == FetchState.PENDING]
    missing = workers.missing(session).get(Queue.CPU) if pending else None
    return dict.fromkeys(pending, missing) if missing else {}


def cancel(session: Session, fetch: Fetch) -> None:
    """End a fetch; a worker that is at it stops when it next looks. What is here stays, so that it can be taken up
    again. Does nothing to one that is over."""
    _change(session, fetch, _LIVE, state=FetchState.CANCELLED, finished_at=now(), token=None, lease_until=None)


def delete(session: Session, fetch: Fetch) -> None:
    """Remove a fetch, whatever its state, with what is here of it; a worker that is at it stops. The prior it has made
    stays."""
    for key in (fetch_key(fetch.id), prior_key(fetch.id)):
        trash.throw(session, select(literal(key)))
    session.execute(delete_rows(Fetch).where(Fetch.id == fetch.id))
    session.expunge(fetch)


def _asked_before(session: Session, owner: str, name: str, spec: FetchSpec) -> Fetch | None:
    """The newest fetch that the same request has made."""
    same = (Fetch.owner == owner, Fetch.name == name, Fetch.repo == spec.repo, Fetch.revision == spec.revision)
    made = session.scalars(select(Fetch).where(*same).order_by(Fetch.created_at.desc(), Fetch.id)).all()
    return next((fetch for fetch in made if fetch.options == spec.options), None)


def _stands(session: Session, fetch: Fetch) -> bool:
    """Whether nothing is to be done for it: it is not over, or what it brought is there."""
    if fetch.state in LIVE_FETCH:
        return True
    brought = select(Prior.name).where(Prior.fetch_id == fetch.id)
    return fetch.state == FetchState.DONE and session.scalar(brought.limit(1)) is not None


def _check_no_other(session: Session, owner: str, name: str) -> None:
    live = select(Fetch.id).where(Fetch.owner == owner, Fetch.name == name, _LIVE)
    if other := session.scalar(live.limit(1)):
        raise Conflict(f"A prior named {name!r} is being fetched already (fetch {other}). Choose another name.")
    learning = Training.state.in_(LIVE_TRAINING)
    trained = select(Training.id).where(Training.owner == owner, Training.name == name, learning)
    if training := session.scalar(trained.limit(1)):
        raise Conflict(f"A prior named {name!r} is being trained (training {training}). Choose another name.")


def _change(session: Session, fetch: Fetch, which: ColumnElement[bool], **values: object) -> None:
    leases.changed(session, update(Fetch).where(Fetch.id == fetch.id, which).values(**values))
    session.refresh(fetch)
