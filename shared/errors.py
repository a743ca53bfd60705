"""The errors a user can cause, each with its HTTP status.

    RegrowError
    ├── Unauthorized      401  no key, or one that does not count
    ├── NotFound          404  no such thing, or not yours
    ├── Conflict          409  not in this state
    ├── Gone              410  it was there, and will not be again
    ├── TooLarge          413  over a configured limit
    ├── Invalid           422  the request says something that cannot be
    │   ├── KeyReused          an Idempotency-Key that belongs to another request
    │   ├── BadArchive         the zip as such
    │   ├── BadImage           one image
    │   └── BadLabels          one label file
    ├── Locked            423  somebody else is at it
    ├── LimitReached      429  a project has as much as it may have
    ├── ChecksumMismatch  460  what came is not what was sent
    ├── NotConfigured     500  the operator's settings cannot work
    └── NoSpace           507  it would not fit on the disk

`slug` is the last part of the problem's stable `type`; `detail` is written for the person who reads it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: `where` names the file, line or field, `what` says what is wrong there."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def told(found: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """What pydantic's `ValidationError.errors()` are, in the words of whoever raised them."""
    return [Fault(".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")) for each in found]


class RegrowError(Exception):
    """Base of all errors that are somebody's doing and not a defect of ours."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "error"
    title: ClassVar[str] = "Error"
    retry_after: ClassVar[int | None] = None
    """Seconds after which it may be worth while to try again, where that is known beforehand."""
    figures: Mapping[str, int] = MappingProxyType({})
    """Numbers of `detail` that a program may want."""

    def __init__(self, detail: str, faults: Iterable[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class Unauthorized(RegrowError):
    status, slug, title = 401, "unauthorized", "A key is needed"


class NotFound(RegrowError):
    status, slug, title = 404, "not-found", "Not found"


class Conflict(RegrowError):
    status, slug, title = 409, "conflict", "Not possible in this state"


class Gone(RegrowError):
    status, slug, title = 410, "gone", "No longer there"


class TooLarge(RegrowError):
    status, slug, title = 413, "too-large", "Over a limit"


class Invalid(RegrowError):
    status, slug, title = 422, "invalid", "Invalid request"


class KeyReused(Invalid):
    slug, title = "idempotency-key-reused", "The Idempotency-Key belongs to another request"


class BadArchive(Invalid):
    slug, title = "bad-archive", "The archive cannot be used"


class BadImage(Invalid):
    slug, title = "bad-image", "An image cannot be used"


class BadLabels(Invalid):
    slug, title = "bad-labels", "A label file cannot be used"


class Locked(RegrowError):
    status, slug, title = 423, "locked", "In use by another request"


class LimitReached(RegrowError):
    """Only a deletion helps, and somebody else may see to that."""

    status, slug, title = 429, "limit-reached", "As much is there as may be"
    retry_after = 60


class ChecksumMismatch(RegrowError):
    """The status is that of tus, which HTTP itself does not know."""

    status, slug, title = 460, "checksum-mismatch", "The bytes are not those that were announced"


class NotConfigured(RegrowError):
    slug, title = "not-configured", "The service is not set up for this"


class NoSpace(RegrowError):
    """`needed` and `free` are bytes."""

    status, slug, title = 507, "insufficient-storage", "Not enough free space"

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(
            f"This needs about {needed:,} bytes, and {free:,} are free. Delete something, or ask for less."
        )
        self.figures = {"needed": needed, "free": free}
