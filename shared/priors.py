"""Installed priors: what the rest must know of one without loading it.

A prior is a folder in the diffusers layout (`unet/`, `vae/`, `scheduler/`). Whoever sees the folder registers it;
the API, which may run on another machine, reads the row.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, func, literal, or_, select, true
from sqlalchemy.orm import Session

from shared import trash
from shared.errors import Conflict, Invalid, NotConfigured, NotFound
from shared.keys import LOCAL
from shared.models import Fetch, Job, Prior, Training
from shared.spec import Conditioning, Guide
from shared.states import LIVE_FETCH, LIVE_TRAINING, FetchState
from shared.storage import Storage, prior_key

BUILTIN = "builtin"
EVERYBODYS = ""
"""The owner of what the operator installed."""
CARD = "README.md"
FACTS = "card.json"
"""What a prior's card says, for programs; not every prior has one."""
SAMPLES = "samples.png"
"""What it drew when it was done; not every prior has some."""
WHOLE = "checkpoint.safetensors"
"""All weights of a prior in one file; the folder then holds configurations beside it."""
_WORD = re.compile(r"<[^<>\s]+>")
"""How a word is written that a prior was taught."""
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
"""What a prior may be called."""
PRIOR: Final = "prior"
AUTOENCODER: Final = "autoencoder"
"""The kinds of rows."""
_MADE_BY = func.coalesce(Prior.training_id, Prior.fetch_id)
"""`Prior.made_by`."""
_HOW = (
    "`regrow priors fetch` brings one from a hub, where the operator allows it; `regrow priors add`, on the server, "
    "takes one that is there."
)


def describe(name: str, folder: Path) -> Prior:
    """Read the folder of a prior, or of an autoencoder.

    Raises:
        NotConfigured: it is no such folder; the message names the file that is missing or wrong.
    """
    if not (folder / "unet").is_dir() and (folder / "config.json").is_file():
        return _autoencoder(name, folder)
    unet, vae = _config(folder / "unet"), _config(folder / ("vae" if (folder / "vae").is_dir() else "vqvae"))
    weights = sorted(folder.glob("*/*.safetensors")) + sorted(folder.glob(WHOLE))
    if not weights:
        raise NotConfigured(f"{folder}: no .safetensors weights in it. A prior is a folder in the diffusers layout.")
    about = sorted(folder.glob("*/*.json"))
    if (folder / "text_encoder_2").is_dir():
        about += folder.glob("model_index.json")
    factor = _factor(vae, folder)
    card = folder / CARD
    return Prior(
        owner=EVERYBODYS,
        name=name,
        sha256=_hash(folder, [*about, *weights]),
        native_size=_number(unet, "sample_size", folder / "unet") * factor,
        multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
        size=sum(path.stat().st_size for path in weights),
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
        trained_on=_trained_on(folder / FACTS),
        kind=PRIOR,
        channels=vae.get("latent_channels"),
        factor=factor,
        prompts=unet.get("_class_name") == "UNet2DConditionModel",
        words=_words(folder),
    )


def _autoencoder(name: str, folder: Path) -> Prior:
    config, weights = _config(folder), sorted(folder.glob("*.safetensors"))
    if not weights:
        raise NotConfigured(f"{folder}: no .safetensors weights in it.")
    factor = _factor(config, folder)
    return Prior(
        name=name,
        sha256=_hash(folder, [folder / "config.json", *weights]),
        native_size=factor,
        multiple=factor,
        size=sum(path.stat().st_size for path in weights),
        kind=AUTOENCODER,
        channels=_number(config, "latent_channels", folder),
        factor=factor,
    )


def _hash(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _factor(config: dict[str, Any], folder: Path) -> int:
    """By how much an autoencoder makes the sides of a picture smaller."""
    blocks = config.get("encoder_block_out_channels") or config.get("block_out_channels")
    if not isinstance(blocks, list):
        raise NotConfigured(f"{folder}: the config.json of its autoencoder has no block_out_channels.")
    return int(config.get("upsampling_scaling_factor", 2) ** (len(blocks) - 1))


def _number(config: dict[str, Any], field: str, folder: Path) -> int:
    value = config.get(field)
    if not isinstance(value, int):
        raise NotConfigured(f"{folder / 'config.json'}: {field} must be a number, not {value}.")
    return value


def _words(folder: Path) -> list[str]:
    """What a tokenizer has learned beside its vocabulary."""
    path = folder / "tokenizer" / "added_tokens.json"
    words = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return sorted(word for word in words if not word.startswith("<|"))


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


def register(session: Session, name: str, folder: Path, *, added: bool = False) -> Prior:
    """Make a prior known to the service, or known anew after its files changed; `added`: where it is.

    Raises:
        NotConfigured: it cannot be used, or another one has its name.
    """
    if session.scalar(select(Prior.name).where(Prior.name == name, _MADE_BY.is_not(None)).limit(1)):
        raise NotConfigured(
            f"{folder}: a prior named {name!r} was trained or fetched here. Delete that, or rename this folder."
        )
    if added:
        check_name(session, name)
    described = describe(name, folder)
    described.path = str(folder) if added else None
    return session.merge(described)


def check_name(session: Session, name: str) -> None:
    """Raises NotConfigured unless what lies somewhere may be added under the name, anew or for the first time."""
    other = session.get(Prior, (EVERYBODYS, name))
    if name == BUILTIN or (other is not None and other.path is None):
        raise NotConfigured(f"There is a prior named {name!r} already. Choose another name.")
    live = select(Training.id).where(Training.name == name, Training.state.in_(LIVE_TRAINING))
    if session.scalar(live.limit(1)):
        raise NotConfigured(f"A prior named {name!r} is being trained. Choose another name.")
    coming = select(Fetch.id).where(Fetch.name == name, Fetch.state.in_(LIVE_FETCH))
    if session.scalar(coming.limit(1)):
        raise NotConfigured(f"A prior named {name!r} is being fetched. Choose another name.")


def added(session: Session) -> dict[str, tuple[Path, str]]:
    """Folder and hash of each that was added where it is, by name, as far as it can be seen from here."""
    rows = session.execute(select(Prior.name, Prior.path, Prior.sha256).where(Prior.path.is_not(None)))
    return {name: (Path(path), sha256) for name, path, sha256 in rows if path and Path(path).is_dir()}


def made_here(session: Session, storage: Storage) -> dict[str, tuple[Path, str]]:
    """Folder and hash of each prior that was trained or fetched here, by what made it, as far as its folder can be
    seen."""
    rows = session.execute(select(_MADE_BY, Prior.sha256).where(_MADE_BY.is_not(None))).all()
    found = {made_by: (storage.folder(prior_key(made_by)).resolve(), sha256) for made_by, sha256 in rows}
    return {made_by: (folder, sha256) for made_by, (folder, sha256) in found.items() if folder.is_dir()}


def visible(owner: str) -> ColumnElement[bool]:
    """Those that an owner's jobs can name: what they trained or fetched themselves, and what the operator installed."""
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
    return _known(session, owner, name, PRIOR, hold=hold)


def guide(session: Session, owner: str, name: str | None, prior: Prior) -> Guide | None:
    """The autoencoder that an owner knows by that name, which makes latents like those of a prior; None for no name.

    Raises:
        Invalid: there is none, or it does not fit the prior.
    """
    if name is None:
        return None
    found = _known(session, owner, name, AUTOENCODER)
    ours, theirs = (found.channels, found.factor), (prior.channels, prior.factor)
    if ours != theirs and None not in theirs:
        raise Invalid(
            f"sampler.guidance_vae: {name!r} makes latents of {ours[0]} channels, {ours[1]} times smaller than "
            f"a picture; those of the prior {prior.name!r} have {theirs[0]} and are {theirs[1]} times smaller."
        )
    return Guide(name=name, sha256=found.sha256)


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
    """Remove a prior that an owner has trained or fetched, or forget one that was added where it is: its files stay.

    Raises:
        NotFound: they know none of that name.
        Conflict: it was neither, or is not theirs to remove, or a job that is not over, or a training, needs it.
    """
    prior = session.get(Prior, (get(session, owner, name).owner, name), with_for_update=True)
    if prior is None:
        raise NotFound(f"There is no prior {name!r}.")
    if prior.made_by is None and prior.path is None:
        where = "comes with Regrow" if name == BUILTIN else "was put into the folder REGROW_PRIORS by hand"
        raise Conflict(f"The prior {name!r} {where}; only what was trained, fetched or added can be deleted here.")
    if prior.owner == EVERYBODYS and owner != LOCAL:
        raise Conflict(f"The prior {name!r} is for all. Who runs the service can remove it, there and without a key.")
    whose = Job.owner == owner if prior.owner == owner else true()
    named = (Job.resolved["prior"], Job.resolved[("guidance_vae", "name")])
    job = session.scalar(
        select(Job.id)
        .where(whose, Job.finished_at.is_(None), or_(*(place.as_string() == name for place in named)))
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
    if prior.made_by is not None:
        trash.throw(session, select(literal(prior_key(prior.made_by))))
    session.delete(prior)
    session.flush()


def check_prompt(prior: Prior, said: Conditioning | None) -> None:
    """Raises Invalid if the prior cannot be told what a job is to say, or does not know one of its words."""
    if said is None:
        return
    if not prior.prompts:
        raise Invalid(
            f"sampler.prompt: the prior {prior.name!r} has no text encoder and takes no prompt. Leave it out, or "
            "choose a Stable Diffusion."
        )
    unknown = sorted(set(_WORD.findall(f"{said.prompt} {said.negative}")) - set(prior.words))
    if unknown:
        known = ", ".join(prior.words) or "none"
        raise Invalid(f"sampler.prompt: the prior {prior.name!r} was not taught {unknown[0]}. Words it was: {known}.")


def trained_on(session: Session, prior: Prior) -> set[str]:
    """Hashes of the images that a prior learned from, as far as its card tells."""
    its = (Prior.owner == prior.owner) & (Prior.name == prior.name)
    return set(session.scalar(select(Prior.trained_on).where(its)) or [])


def check_free(session: Session, owner: str, name: str, made_by: str) -> None:
    """Raises Conflict if a prior that an owner knows has the name, unless that training or fetch made it.

    To be asked once that was written as the one of that name that is not over: whoever was so before has left
    its prior by then.
    """
    prior = _named(session, owner, name)
    if prior is not None and prior.made_by != made_by:
        raise Conflict(f"A prior named {name!r} is installed already. Choose another name, or delete it.")


def check_canvas(prior: Prior, long_side: int | None) -> None:
    """Raises Invalid if the prior cannot work on a canvas of that long side; None is one that follows the images."""
    if prior.native_size % prior.multiple or (long_side or 0) % prior.multiple:
        raise Invalid(f"canvas.long_side must be a multiple of {prior.multiple} for the prior {prior.name!r}.")


def _known(
    session: Session, owner: str, name: str, kind: Literal["prior", "autoencoder"], *, hold: bool = False
) -> Prior:
    row = _named(session, owner, name, hold=hold)
    if row is None or row.kind != kind:
        there = select(Prior.name).where(visible(owner), Prior.kind == kind).order_by(Prior.name)
        nothing = "none yet: has a worker been started?" if kind == PRIOR else "none"
        known = ", ".join(session.scalars(there)) or nothing
        coming = _on_its_way(session, owner, name)
        raise Invalid(f"There is no {kind} named {name!r}{coming}. Installed: {known}. {_HOW}")
    return row


def _on_its_way(session: Session, owner: str, name: str) -> str:
    """What there is to say of a name that somebody has begun to install a prior under."""
    training = select(Training.id).where(Training.owner == owner, Training.name == name)
    if found := session.scalar(training.where(Training.state.in_(LIVE_TRAINING)).limit(1)):
        return f" yet: it is being trained (training {found})"
    theirs = select(Fetch).where(Fetch.owner.in_([LOCAL, owner]), Fetch.name == name)
    fetch = session.scalar(theirs.order_by(Fetch.created_at.desc()).limit(1))
    if fetch is not None and fetch.state in LIVE_FETCH:
        share = f", {fetch.received / fetch.size:.0%} is here" if fetch.size else ""
        return f" yet: it is being fetched{share}. Make the job when it is there"
    if fetch is not None and fetch.owner == owner and fetch.state == FetchState.FAILED and fetch.error is not None:
        return f": to fetch it failed. {fetch.error['detail'].rstrip('.')}"
    return ""


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
