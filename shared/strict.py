"""The form of everything a user may ask for."""

import hashlib

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen value in which an unknown field is an error and no number may be NaN or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def digest(asked: Strict) -> str:
    """The hash by which a request is known again."""
    return hashlib.sha256(asked.model_dump_json().encode()).hexdigest()
