"""The routes: one noun a file."""

from typing import Annotated

from fastapi import Header, Path
from pydantic import AfterValidator

from shared.errors import NotFound


def _hex_id(value: str) -> str:
    if len(value) != 32 or not set(value) <= set("0123456789abcdef"):
        raise NotFound(f"There is nothing with the id {value!r}.")
    return value


# What cannot be an id is not found, like an id that nothing has.
HexId = Annotated[str, Path(description="An id: 32 hex digits."), AfterValidator(_hex_id)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text that no other request has. The same request under the same key makes nothing a second "
        "time, so that it can be sent again when its answer was lost; another request under it is refused (422).",
    ),
]
Number = Annotated[int, Path(ge=0, lt=2**63, description="An id: a whole number.")]
