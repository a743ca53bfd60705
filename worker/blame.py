"""Whose fault an error is, where its type does not tell."""

import errno
import re

import torch

from shared.storage import Storage

_AWAY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.EIO}
_TRIED = re.compile(r"tried to allocate ([\d.]+) (bytes|[KMG]iB)", re.IGNORECASE)
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def storage_away(error: OSError, storage: Storage) -> bool:
    """Whether the disk is full or a share is away, and not just one file gone."""
    return error.errno in _AWAY or not storage.there()


def out_of_memory(error: Exception) -> bool:
    """Whether the device, or the machine, had no memory left. For a CPU's, torch has no error of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def asked_for(error: Exception) -> int | None:
    """The bytes that were not to be had when memory was out, as far as the error tells."""
    found = _TRIED.search(str(error))
    return round(float(found[1]) * _UNITS[found[2]]) if found else None
