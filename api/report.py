"""What was seen in a dataset, as it crosses the wire; `shared.datasets` counts, and `worker.survey` makes the rest."""

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

from api.problems import Place

T = TypeVar("T")


class Counts(BaseModel):
    """What a dataset holds, by split."""

    images: dict[str, int] = Field(description="Images in each split.")
    boxes: dict[str, dict[str, int]] = Field(description="Boxes of each class in each split.")
    unlabelled: int = Field(description="Images without a box.")


class Some(BaseModel, Generic[T]):
    """How many there are, and the first of them."""

    count: int
    examples: list[T]


class Sizes(BaseModel):
    """Width and height in pixels, of three images in the order of their areas."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]


class Duplicates(BaseModel):
    """Images whose pixels are the same, whatever their bytes, as lists of their paths."""

    within: Some[list[str]] = Field(description="Those that are all in one split.")
    across: Some[list[str]] = Field(description="Those that are in several splits.")


class Groups(BaseModel):
    """Patients or scenes, found by `group_pattern`."""

    count: int
    without: int = Field(description="Images in whose paths the pattern finds nothing.")
    across: Some[str] = Field(description="Groups with images in several splits.")


class Difference(BaseModel):
    """A dataset beside its parent. An image is known by its bytes: one whose bytes are others is another image, so that
    the old one was removed and the new one added, though both may have one path."""

    parent: str
    unchanged: int = Field(description="Images with the same bytes and labels, path and split.")
    moved: Some[tuple[str, str]] = Field(
        description="Those under another path or in another split, as the old and the new path."
    )
    relabelled: Some[str] = Field(description="Images with the same bytes and other labels.")
    added: Some[str]
    removed: Some[str] = Field(description="By their paths in the parent.")


class Report(BaseModel):
    """What was seen in a dataset beside its counts."""

    why: str = Field(description="Why it was taken for a dataset of this format.")
    labels: str = Field(description="`boxes`, `polygons`, `oriented boxes` or `key points`.")
    without_labels: dict[str, int] = Field(description="Images without a label in each split that has any.")
    sizes: Sizes
    metadata: dict[str, int] = Field(
        description="Images that tell something beside their pixels: `exif`, `xmp`, `text`. No variant has any of it."
    )
    duplicates: Duplicates
    groups: Groups | None = Field(description="Null without `group_pattern`.")
    unpaired: Some[str] = Field(description="Labels without an image, and images that are no part of the set.")
    skipped: Some[Place] = Field(description="Images that could not be used, where `on_bad_image` is `skip`.")
    forgotten: int = Field(
        0, description="Images that were forgotten since. Sizes, metadata and duplicates are told as they were."
    )
    difference: Difference | None = Field(
        None, description="What was added, removed and relabelled; null without a `parent`."
    )
