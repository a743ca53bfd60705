"""The form of everything a user may ask for."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen value in which an unknown field is an error and no number may be NaN or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
