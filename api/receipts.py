"""What is forgotten, and the receipt for it, as they cross the wire."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api.schemas.fields import Time
from shared import models
from shared.forgetting import Wish

_Text = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


class Forget(BaseModel):
    """Which images of a dataset are to be forgotten: `match` or `group`."""

    model_config = ConfigDict(extra="forbid")

    match: _Text | None = Field(
        None,
        description="Those whose path fits it, or if it has no `/`, the name of whose file does. `*` stands for any "
        "characters, `/` among them, `?` for one; all else for itself.",
        examples=["p17_*", "images/train/p17_*.png"],
    )
    group: _Text | None = Field(None, description="Those of this patient or scene, as `group_pattern` has found it.")
    everywhere: bool = Field(
        False, description="Copies of the same bytes too, in this and all your other datasets that are `ready`."
    )
    dry_run: bool = Field(False, description="Nothing is changed, and the answer is the same.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.match is None) == (self.group is None):
            raise ValueError("say either match or group")
        return self

    @property
    def wish(self) -> Wish:
        return Wish(self.match, self.group, self.everywhere)


class Copy(BaseModel):
    """An image of some bytes."""

    dataset: str
    path: str
    sha256: str


class Variant(BaseModel):
    """A new image that was made of one."""

    job: str
    variant: int
    sha256: str | None


class ForgottenImage(Copy):
    """An image, and what was made of it."""

    mask_sha256: str | None = Field(description="Of the mask image that came with it.")
    variants: list[Variant]


class LearnedPrior(BaseModel):
    """A prior that has learned from one of the images. It cannot forget: delete it, or train another."""

    name: str
    sha256: str
    trained_at: Time | None = Field(description="Null if that is not known here.")
    images: int = Field(description="How many of the images it has learned from.")


class ForgottenCounts(BaseModel):
    """What goes, in numbers."""

    images: int
    variants: int
    unfinished: int = Field(
        description="Items that had made nothing: those that waited, ran, failed or were cancelled."
    )
    archives: int = Field(description="Archives that are built anew: they held originals of the dataset.")
    files: int = Field(description="Stored files. One that something else still needs is not among them.")


class Receipt(BaseModel):
    """What was forgotten, when and by whom."""

    id: str | None = Field(description="Null of what was only looked at, and where no image was meant.")
    created_at: Time | None
    dry_run: bool
    by: str = Field(description="The name of the key that was used; `local` without one.")
    dataset: str
    name: str = Field(description="The dataset's.")
    match: str | None
    group: str | None
    everywhere: bool
    images: list[ForgottenImage]
    copies: list[Copy] = Field(description="Images of yours with the same bytes, which stay without `everywhere`.")
    counts: ForgottenCounts
    priors: list[LearnedPrior]
    files_waiting: int = Field(description="Files that are still to be removed: 0 within seconds.")

    @classmethod
    def from_row(cls, row: models.Receipt, waiting: Mapping[str, int]) -> Self:
        more = {"id": row.id, "created_at": row.created_at, "dry_run": False}
        return cls.model_validate(row.body | more | {"files_waiting": waiting.get(row.id, 0)})

    @classmethod
    def of_nothing_done(cls, body: dict[str, Any], *, dry_run: bool) -> Self:
        """Of a dry run, or where no image was meant."""
        return cls.model_validate(body | {"id": None, "created_at": None, "dry_run": dry_run, "files_waiting": 0})
