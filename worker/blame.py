"""Whose fault an error is, and what becomes of work that raised one."""

import errno
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from sqlalchemy.exc import SQLAlchemyError

from shared.errors import RegrowError
from shared.storage import Storage

log = logging.getLogger(__name__)

_AWAY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.EIO}
_TRIED = re.compile(r"tried to allocate ([\d.]+) (bytes|[KMG]iB)", re.IGNORECASE)
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Stopped(Exception):
    """Work is given up between two steps, and goes back unharmed."""


class Refused(Exception):
    """Work can never succeed; `kind` and `detail` are what its owner reads."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


class Fail(Protocol):
    """Writes down that work failed; unless `final`, it may be tried again."""

    def __call__(self, kind: str, detail: str, *, final: bool) -> None: ...


@contextmanager
def blamed(
    what: str, fail: Fail, *, storage: Storage, device: torch.device, too_much: Callable[[Exception], str]
) -> Iterator[None]:
    """Whatever work itself raises is told to `fail` and goes no further; what is not its doing passes through.

    `what` it is, is for the log; `too_much` says what to do about an error that says that the memory is out.
    """
    try:
        yield
    except (Stopped, SQLAlchemyError, torch.AcceleratorError):
        # After the last the device no longer answers this process, whoever is at fault.
        raise
    except Refused as refusal:
        fail(refusal.kind, refusal.detail, final=True)
    except RegrowError as error:
        fail(error.slug, error.detail, final=True)
    except OSError as error:
        # A full disk or a share that is away: no fault of the work's, so no attempt of its is spent.
        if storage_away(error, storage):
            raise
        fail("storage", f"{error.strerror or error}: {error.filename}", final=False)
    except Exception as error:
        if out_of_memory(error):
            fail(short_of_memory(device), too_much(error), final=True)
            return
        log.exception("%s raised what nobody foresaw", what)
        fail("unexpected", f"{type(error).__name__}: {error}", final=False)


def storage_away(error: OSError, storage: Storage) -> bool:
    """Whether the disk is full or a share is away, and not just one file gone."""
    return error.errno in _AWAY or not storage.there()


def short_of_memory(device: torch.device) -> str:
    """The kind of failure that is for want of a device's memory."""
    return "out_of_memory" if device.type == "cpu" else "gpu_out_of_memory"


def out_of_memory(error: Exception) -> bool:
    """Whether the device, or the machine, had no memory left. For a CPU's, torch has no error of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def asked_for(error: Exception) -> int | None:
    """The bytes that were not to be had when memory was out, as far as the error tells."""
    found = _TRIED.search(str(error))
    return round(float(found[1]) * _UNITS[found[2]]) if found else None
