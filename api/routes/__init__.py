"""The routes: one noun a file."""

from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator

from shared.errors import NotFound


def _hex_id(value: str) -> str:
    if len(value) != 32 or not set(value) <= set("0123456789abcdef"):
        raise NotFound(f"There is nothing with the id {value!r}.")
    return value


# What cannot be an id is not found, like an id that nothing has.
HexId = Annotated[str, Path(description="An id: 32 hex digits."), AfterValidator(_hex_id)]
Number = Annotated[int, Path(ge=0, lt=2**63, description="An id: a whole number.")]
