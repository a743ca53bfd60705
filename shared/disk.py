"""Files on a disk: what is in them, and that it is there to stay."""

import hashlib
import os
from pathlib import Path


def sha256(path: Path) -> str:
    """The hash of a file, which need not fit the memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or what a folder says of its files' names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
