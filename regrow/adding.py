"""`regrow priors add`: what lies on the server becomes a prior, where it is."""

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

import migrations
from regrow import preconditions
from regrow.preconditions import Refused
from shared import priors
from shared.db import Sessions, make_sessions
from shared.errors import RegrowError
from shared.models import Prior
from shared.priors import NAME
from shared.settings import Settings

_ROOT = Path(__file__).resolve().parents[1]
_PICKLES = {".ckpt", ".pt", ".pth", ".bin"}


def add(path: Path, name: str, architecture: str | None, config: Path | None, data: Path | None) -> str:
    """Check a prior's folder or file, and make it known; returns what to say of it.

    Raises:
        Refused: it cannot be used, or the name is taken.
    """
    if not re.fullmatch(NAME, name):
        raise Refused(f"{name!r} is no name of a prior: lower-case letters, digits, `.`, `_` and `-`.")
    if path.suffix in _PICKLES:
        raise Refused(
            f"{path} is a pickle, which may run code when it is read. Take the .safetensors of the same model, or "
            "convert it where that does no harm: safetensors.torch.save_file(torch.load(...)['state_dict'], ...)"
        )
    if path.is_dir() and (architecture or config):
        raise Refused("--architecture and --config are for a single file: a folder has configurations of its own.")
    settings = preconditions.read_settings(data)
    path = path.resolve()
    with _database(settings) as sessions:
        with sessions.read() as session:
            priors.check_name(session, name)
        if path.is_dir():
            _check(path, [])
            folder = path
        else:
            folder = _laid_out(path, settings.data / "priors" / name, architecture, config)
        with sessions.write() as session:
            prior = priors.register(session, name, folder, added=True)
            return _said(prior, path)


def _laid_out(path: Path, home: Path, architecture: str | None, config: Path | None) -> Path:
    """A small folder for a file, in place of one that there may be, once it is known that it can be used."""
    preconditions.folder(home.parent)
    partial = home.with_name(f".{home.name}.{secrets.token_hex(4)}.part")
    try:
        options = ["--into", str(partial)]
        options += ["--architecture", architecture] if architecture else []
        _check(path, [*options, "--config", str(config.resolve())] if config else options)
        shutil.rmtree(home, ignore_errors=True)
        partial.rename(home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return home


def _check(path: Path, options: Sequence[str]) -> None:
    """Have all of it read, in a process of its own: only there may torch be loaded."""
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))}
    argv = [sys.executable, "-m", "worker.priors", str(path), *options]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise Refused(lines[-1] if lines else f"python -m worker.priors ended with code {done.returncode}")


@contextmanager
def _database(settings: Settings) -> Iterator[Sessions]:
    try:
        preconditions.folder(settings.data)
        sessions = make_sessions(settings.database)
        try:
            migrations.upgrade(sessions.engine)
            yield sessions
        finally:
            sessions.dispose()
    except RegrowError as error:
        raise Refused(error.detail) from None
    except OperationalError as error:
        url = make_url(settings.database).render_as_string(hide_password=True)
        raise Refused(f"The database {url} cannot be used: {error.orig}") from None


def _said(prior: Prior, path: Path) -> str:
    what = "takes prompts" if prior.prompts else "an autoencoder" if prior.kind == priors.AUTOENCODER else "no prompts"
    size = f"{prior.size / 1e6:,.0f} MB"
    return f"Added    {prior.name}: {prior.native_size} px, {what}, {size}, {prior.sha256[:12]}, in {path}"
