"""Lists, page by page: a cursor says after which row to go on, so that new rows shift nothing (keyset pagination)."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, Field, TypeAdapter
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from shared.errors import Fault, Invalid
from shared.models import AuditEntry, Dataset, Fetch, Image, Item, Job, Receipt, Training, Upload
from shared.reading import ID

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D", AuditEntry, Dataset, Fetch, Job, Receipt, Training, Upload)
N = TypeVar("N", Image, Item)

_AfterTime = tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[str, Field(pattern=ID)]]
_AFTER_TIME: TypeAdapter[tuple[float, str]] = TypeAdapter(_AfterTime)
_AFTER_NUMBER: TypeAdapter[tuple[int]] = TypeAdapter(tuple[Annotated[int, Field(ge=0, lt=2**63)]])


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


@dataclass(frozen=True, slots=True)
class Found(Generic[R]):
    """The rows of a page, and the cursor of the next."""

    rows: Sequence[R]
    next: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page was asked for, and the response that will tell where the next one is."""

    cursor: str | None
    limit: int
    request: Request
    response: Response

    def newest_first(self, session: Session, statement: Select[D], model: type[D]) -> Found[D]:
        """The page of `statement`, by time of creation."""
        if self.cursor is not None:
            statement = statement.where(tuple_(model.created_at, model.id) < _read(self.cursor, _AFTER_TIME))
        ordered = statement.order_by(model.created_at.desc(), model.id.desc())
        return self._found(session, ordered, lambda row: [row.created_at, row.id])

    def by_number(self, session: Session, statement: Select[N], model: type[N]) -> Found[N]:
        """The page of `statement`, by ascending id."""
        if self.cursor is not None:
            statement = statement.where(model.id > _read(self.cursor, _AFTER_NUMBER)[0])
        return self._found(session, statement.order_by(model.id), lambda row: [row.id])

    def page(self, found: Found[R], make: Callable[[R], T]) -> Page[T]:
        """The page as it is sent, with `Link: rel="next"` unless it is the last."""
        if found.next is not None:
            url = self.request.url.include_query_params(cursor=found.next)
            self.response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return Page(items=[make(row) for row in found.rows], next=found.next)

    def _found(self, session: Session, ordered: Select[R], place: Callable[[R], list[Any]]) -> Found[R]:
        # One more than asked for tells whether there is a next page.
        rows = session.scalars(ordered.limit(self.limit + 1)).all()
        page = rows[: self.limit]
        return Found(page, _write(place(page[-1])) if len(rows) > self.limit else None)


async def _asked(
    request: Request,
    response: Response,
    cursor: Annotated[str | None, Query(description="`next` of the page before; left out: the first page.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Most entries on a page.")] = 100,
) -> Asked:
    return Asked(cursor, limit, request, response)


AskedDep = Annotated[Asked, Depends(_asked)]


def _write(place: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _read(cursor: str, kind: TypeAdapter[T]) -> T:
    try:
        return kind.validate_json(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except ValueError:
        what = "Not a cursor of this list. Use `next` of a page as it is, or leave it out for the first page."
        raise Invalid(what, [Fault("query.cursor", what)]) from None
