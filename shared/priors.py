"""Installed priors: what the rest must know of one without loading it.

A prior is a folder in the diffusers layout (`unet/`, `vae/`, `scheduler/`). Whoever sees the folder registers it;
the API, which may run on another machine, reads the row.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import Invalid, NotConfigured
from shared.models import Prior

CARD = "README.md"


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
        name=name,
        sha256=digest.hexdigest(),
        native_size=unet["sample_size"] * factor,
        multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
        size=sum(path.stat().st_size for path in weights),
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
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
    """Make a prior known to the service, or known anew after its files changed."""
    return session.merge(describe(name, folder))


def find(session: Session, name: str) -> Prior:
    """The prior of that name.

    Raises:
        Invalid: there is none; the message lists those there are.
    """
    prior = session.get(Prior, name)
    if prior is None:
        known = (
            ", ".join(sorted(row.name for row in session.scalars(select(Prior))))
            or "none yet: has a worker been started?"
        )
        raise Invalid(f"There is no prior named {name!r}. Installed: {known}.")
    return prior


def check_canvas(prior: Prior, long_side: int | None) -> None:
    """Raises Invalid if the prior cannot work on a canvas of that long side; None is the prior's own size."""
    if prior.native_size % prior.multiple or (long_side or 0) % prior.multiple:
        raise Invalid(f"canvas.long_side must be a multiple of {prior.multiple} for the prior {prior.name!r}.")


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotConfigured(f"{path} is missing. A prior is a folder in the diffusers layout.") from None
    except ValueError as error:
        raise NotConfigured(f"{path} is not JSON: {error}") from None
    return config
