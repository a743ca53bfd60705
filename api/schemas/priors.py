"""Installed priors."""

from typing import Literal, Self

from pydantic import BaseModel, Field

from api.schemas.fetches import Fetch
from api.schemas.trainings import Training
from shared import models
from shared.priors import BUILTIN


class Prior(BaseModel):
    """An installed prior."""

    name: str
    sha256: str
    native_size: int = Field(description="Long side of the canvas it was trained on, in pixels.")
    multiple: int = Field(description="The canvas's sides are multiples of this many pixels.")
    bytes: int
    card: str = Field(description="Its model card: what it is, from what, under which licence.")
    kind: Literal["prior", "autoencoder"] = Field(
        description="An `autoencoder` is no prior by itself: it may guide one as `sampler.guidance_vae`."
    )
    prompts: bool = Field(description="Whether it can be told what to draw by `sampler.prompt`.")
    words: list[str] = Field(description="Words of a prompt that it was taught, such as `<fracture>`.")
    origin: Literal["builtin", "folder", "added", "trained", "fetched"] = Field(
        description="Whether it comes with Regrow, was put into a folder of priors, was added where it lies, was "
        "trained here, or was fetched from a hub."
    )
    training_id: str | None = Field(description="The training that made it here; it may be deleted by now.")
    source: str | None = Field(
        description="Of one that was fetched: the repository and its commit.", examples=["org/name@0123…"]
    )

    @classmethod
    def from_row(cls, row: models.Prior) -> Self:
        return cls(
            origin=_origin(row),
            kind=row.kind,
            prompts=row.prompts,
            words=row.words,
            training_id=row.training_id,
            source=row.source,
            name=row.name,
            sha256=row.sha256,
            native_size=row.native_size,
            multiple=row.multiple,
            bytes=row.size,
            card=row.card,
        )


class Priors(BaseModel):
    """The installed priors, by name, and the caller's trainings and fetches that are not over, oldest first."""

    items: list[Prior]
    trainings: list[Training]
    fetches: list[Fetch]


def _origin(row: models.Prior) -> Literal["builtin", "folder", "added", "trained", "fetched"]:
    if row.made_by:
        return "trained" if row.training_id else "fetched"
    if row.path:
        return "added"
    return "builtin" if row.name == BUILTIN else "folder"
