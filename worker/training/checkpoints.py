"""A training on disk: whatever happens while one is written, the one before stays."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from shared import disk
from shared.errors import Conflict

CHECKPOINT = "checkpoint.pt"
LATENTS = "latents.pt"
FINISHED = "finished.pt"
HISTORY = "history.json"
SAMPLES = "samples.png"
"""The files of a training's folder; the last also of an installed prior."""
_SYSTEMS = re.compile(r"os error (\d+)")


def write(path: Path, data: bytes) -> None:
    """Replace a file, atomically and durably. An OSError, such as that of a full disk, leaves the old one as it was."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # the system does not say where a disk is full
        raise


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `target` on the way out: that appears whole and on disk, or not at all.

    Raises Conflict if there is one, OSError of a full disk.
    """
    if target.exists():
        raise Conflict(
            f"{target} exists: a prior is not written over another. Choose another name, or remove it first."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield partial
        for path in [*partial.rglob("*"), partial]:
            disk.sync(path)
        partial.rename(target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, SafetensorError) and (found := _SYSTEMS.search(str(error))):
            # Weights are written by a library that has one error for everything.
            raise OSError(number := int(found[1]), os.strerror(number), str(target)) from error
        raise
    disk.sync(target.parent)


def sweep(folder: Path) -> None:
    """Remove what a process that was killed had begun to write."""
    for partial in folder.glob(".*.part"):
        partial.unlink()


def save(path: Path, values: dict[str, Any]) -> None:
    """Write tensors, numbers and texts in dicts and lists as one file; see `write`."""
    whole = BytesIO()
    torch.save(values, whole)
    write(path, whole.getvalue())


def load(path: Path) -> dict[str, Any] | None:
    """What was saved, on the CPU; None where nothing was. Nothing but plain values is ever unpickled."""
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    return values
