"""Installed priors: what the rest must know of one without loading it.

A prior is a folder in the diffusers layout (`unet/`, `vae/`, `scheduler/`). Whoever sees the folder registers it;
the API, which may run on another machine, reads the row.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, literal, select
from sqlalchemy.orm import Session

from shared import trash
from shared.errors import Conflict, Invalid, NotConfigured, NotFound
from shared.models import Job, Prior, Training
from shared.states import LIVE_TRAINING
from shared.storage import Storage, prior_key

BUILTIN = "builtin"
EVERYBODYS = ""
"""The owner of what the operator installed."""
CARD = "README.md"
FACTS = "card.json"
"""What a prior's card says, for programs; not every prior has one."""


def describe(name: str, folder: Path) -> Prior:
    """Read a prior's folder.

    Raises:
        NotConfigured: it is no such folder; the message names the file that is missing or wrong.
    """
    unet, vae = _config(folder / "unet"), _config(folder / "vae")
    weights = sorted(folder.glob("*/*.safetensors"))
    if not weights:
        raise NotConfigured(f"{folder}: no .safetensors weights in it. A prior is a folder in the diffusers layout.")
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*/*.json")), *weights]:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    card = folder / CARD
    return Prior(
        owner=EVERYBODYS,
        name=name,
        sha256=digest.hexdigest(),
        native_size=unet["sample_size"] * factor,
        multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
        size=sum(path.stat().st_size for path in weights),
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
        trained_on=_trained_on(folder / FACTS),
    )


def installed(folder: str) -> dict[str, Path]:
    """The sub-folders of a folder of priors, by their names; none if `folder` is empty.

    Hidden ones, whose names begin with a dot, are priors being written.

    Raises:
        NotConfigured: it is not there.
    """
    if not folder:
        return {}
    if not Path(folder).is_dir():
        raise NotConfigured(f"REGROW_PRIORS={folder} is not a folder.")
    return {
        path.name: path for path in sorted(Path(folder).resolve().iterdir()) if path.is_dir() and path.name[0] != "."
    }


def register(session: Session, name: str, folder: Path) -> Prior:
    """Make a prior known to the service, or known anew after its files changed.

    Raises:
        NotConfigured: it cannot be used, or one that was trained here has its name.
    """
    if session.scalar(select(Prior.name).where(Prior.name == name, Prior.training_id.is_not(None)).limit(1)):
        raise NotConfigured(f"{folder}: a prior named {name!r} was trained here. Delete that, or rename this folder.")
    return session.merge(describe(name, folder))


def trained(session: Session, storage: Storage) -> dict[str, tuple[Path, str]]:
    """Folder and hash of each prior that was trained here, by its training, as far as its folder can be seen."""
    rows = session.execute(select(Prior.training_id, Prior.sha256)).all()
    made = {training_id: sha256 for training_id, sha256 in rows if training_id is not None}
    found = {each: (storage.folder(prior_key(each)).resolve(), sha256) for each, sha256 in made.items()}
    return {training_id: (folder, sha256) for training_id, (folder, sha256) in found.items() if folder.is_dir()}


def visible(owner: str) -> ColumnElement[bool]:
    """Those that an owner's jobs can name: what they trained themselves, and what the operator installed."""
    return Prior.owner.in_([EVERYBODYS, owner])


def hashes(session: Session) -> Callable[[str, str], str | None]:
    """Tells the hash of the prior that an owner knows by a name; None where there is none."""
    rows = session.execute(select(Prior.owner, Prior.name, Prior.sha256))
    known = {(owner, name): sha256 for owner, name, sha256 in rows}
    return lambda owner, name: known.get((owner, name)) or known.get((EVERYBODYS, name))


def find(session: Session, owner: str, name: str, *, hold: bool = False) -> Prior:
    """The prior that an owner knows by that name; with `hold`, nobody deletes it before this transaction ends.

    Raises:
        Invalid: there is none; the message lists those there are.
    """
    prior = _named(session, owner, name, hold=hold)
    if prior is None:
        names = session.scalars(select(Prior.name).where(visible(owner)).order_by(Prior.name)).all()
        known = ", ".join(names) or "none yet: has a worker been started?"
        raise Invalid(f"There is no prior named {name!r}. Installed: {known}.")
    return prior


def get(session: Session, owner: str, name: str) -> Prior:
    """The same, of which a URL speaks.

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    prior = _named(session, owner, name)
    if prior is None:
        raise NotFound(f"There is no prior {name!r}.")
    return prior


def delete(session: Session, owner: str, name: str) -> None:
    """Remove a prior that an owner has trained.

    Raises:
        NotFound: they know none of that name.
        Conflict: it was not trained here, or a job that is not over, or a training, needs it.
    """
    prior = session.get(Prior, (get(session, owner, name).owner, name), with_for_update=True)
    if prior is None:
        raise NotFound(f"There is no prior {name!r}.")
    if prior.training_id is None:
        where = "comes with Regrow" if name == BUILTIN else "was put into the folder REGROW_PRIORS by hand"
        raise Conflict(f"The prior {name!r} {where}; only what was trained here can be deleted here.")
    job = session.scalar(
        select(Job.id)
        .where(Job.owner == owner, Job.finished_at.is_(None), Job.resolved["prior"].as_string() == name)
        .limit(1)
    )
    if job:
        raise Conflict(f"Job {job} is not over and needs the prior {name!r}. Cancel or delete it first.")
    training = session.scalar(
        select(Training.id)
        .where(Training.owner == owner, Training.init == name, Training.state.in_(LIVE_TRAINING))
        .limit(1)
    )
    if training:
        raise Conflict(f"Training {training} starts from the prior {name!r}. Cancel or delete it first.")
    trash.throw(session, select(literal(prior_key(prior.training_id))))
    session.delete(prior)
    session.flush()


def trained_on(session: Session, prior: Prior) -> set[str]:
    """Hashes of the images that a prior learned from, as far as its card tells."""
    its = (Prior.owner == prior.owner) & (Prior.name == prior.name)
    return set(session.scalar(select(Prior.trained_on).where(its)) or [])


def check_free(session: Session, owner: str, name: str, training_id: str) -> None:
    """Raises Conflict if a prior that an owner knows has the name, unless the training made it.

    To be asked once the training was written as the one of that name that is not over: whoever was so before has left
    its prior by then.
    """
    prior = _named(session, owner, name)
    if prior is not None and prior.training_id != training_id:
        raise Conflict(f"A prior named {name!r} is installed already. Choose another name, or delete it.")


def check_canvas(prior: Prior, long_side: int | None) -> None:
    """Raises Invalid if the prior cannot work on a canvas of that long side; None is the prior's own size."""
    if prior.native_size % prior.multiple or (long_side or 0) % prior.multiple:
        raise Invalid(f"canvas.long_side must be a multiple of {prior.multiple} for the prior {prior.name!r}.")


def _named(session: Session, owner: str, name: str, *, hold: bool = False) -> Prior | None:
    # Should the operator install one of a name that was taken meanwhile, each project keeps its own.
    named = select(Prior).where(visible(owner), Prior.name == name).order_by(Prior.owner.desc()).limit(1)
    return session.scalar(named.with_for_update(read=True) if hold else named)


def _trained_on(path: Path) -> list[str]:
    if not path.is_file():
        return []
    try:
        about = json.loads(path.read_text(encoding="utf-8"))["about"]
        return sorted({str(sha256) for sha256 in about.get("sources", [])})
    except (ValueError, LookupError, TypeError, AttributeError):
        raise NotConfigured(f"{path} is no card of a prior: it does not say `about` what it is.") from None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotConfigured(f"{path} is missing. A prior is a folder in the diffusers layout.") from None
    except ValueError as error:
        raise NotConfigured(f"{path} is not JSON: {error}") from None
    return config
