"""Whose fault an error is, where its type does not tell."""

import errno

import torch

from shared.storage import Storage

_AWAY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.EIO}


def storage_away(error: OSError, storage: Storage) -> bool:
    """Whether the disk is full or a share is away, and not just one file gone."""
    return error.errno in _AWAY or not storage.there()


def out_of_memory(error: Exception) -> bool:
    """Whether the device, or the machine, had no memory left. For a CPU's, torch has no error of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
