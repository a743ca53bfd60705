"""What a user may ask of each kind of mask."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from shared.masks.scene import REFERENCE_MARGIN, Geometry
from shared.strict import Strict

MARGIN = 0.04

Margin = Annotated[
    float, Field(ge=0, le=0.5, description="Rim added around each label, in shares of the image's long side.")
]
Keep = Annotated[
    Literal["boxes", "polygons"],
    Field(description="What counts of a polygon label: its bounding box, or its filled area."),
]


class _Mask(Strict):
    needs_labels: ClassVar[bool] = True
    """Whether it is drawn around labels, and cannot be drawn without one."""
    changes_labels: ClassVar[bool] = False
    """Whether its purpose is to hide what is labelled: `blend: boxes` then leaves what it hides as it was regrown."""


class _Referable(_Mask):
    """A kind of which the authors' own geometry is known."""

    margin: Margin = MARGIN
    geometry: Geometry = Field(
        "exact",
        description="`exact`: labels rounded outwards. `reference`: as in the code of Prairie et al., with its quirks "
        f"(ends truncated, last row and column in no box, a margin of {REFERENCE_MARGIN} pixels of the canvas).",
    )

    @model_validator(mode="after")
    def _reference_has_one_form(self) -> Self:
        if self.geometry == "reference":
            if self.margin != type(self).model_fields["margin"].default:
                raise ValueError(f"margin: it is {REFERENCE_MARGIN} pixels in the geometry `reference`; leave it out")
            if getattr(self, "keep", "boxes") != "boxes":
                raise ValueError("keep: the geometry `reference` knows boxes only")
        return self


class _Rectangle(_Mask):
    """A kind that hides a rectangle of random size."""

    smallest: float = Field(0.2, gt=0, le=1, description="Its sides are at least this share of the whole's.")
    largest: float = Field(0.8, gt=0, le=1, description="Its sides are at most this share of the whole's.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError("smallest: it is above largest")
        return self


class GaussianDistance(_Referable):
    """Keep the labels, and of the rest the more the nearer it lies to one."""

    kind: Literal["gaussian_distance"] = "gaussian_distance"
    mu: float = Field(0.0, ge=-2, le=2, description="Mean of the random threshold, in shares of the largest distance.")
    sigma: float = Field(
        0.32,
        gt=0,
        le=10,
        description="Its spread: a pixel at distance d (0 at a label, 1 farthest) is kept with chance Phi((mu - d) / "
        "sigma).",
    )
    keep: Keep = "boxes"


class GaussianDistanceAll(_Referable):
    """The same, the labels' own pixels being at distance 0: with mu 0 half of them are kept."""

    kind: Literal["gaussian_distance_all"] = "gaussian_distance_all"
    mu: float = Field(0.0, ge=-2, le=2, description="Mean of the random threshold, in shares of the largest distance.")
    sigma: float = Field(0.32, gt=0, le=10, description="Its spread, in shares of the largest distance.")
    keep: Keep = "boxes"


class OutsideBoxes(_Referable):
    """Keep the labels and nothing else."""

    kind: Literal["outside_boxes"] = "outside_boxes"
    keep: Keep = "boxes"


class Random(_Mask):
    """Keep pixels by chance, wherever they are."""

    needs_labels: ClassVar[bool] = False
    kind: Literal["random"] = "random"
    share: float = Field(0.2, gt=0, lt=1, description="The chance of each pixel to be kept.")
    keep_labels: bool = Field(True, description="Keep the labels too.")
    margin: Margin = MARGIN
    keep: Keep = "boxes"


class RandomInsideBoxes(_Mask):
    """Hide pixels inside the labels by chance, and nothing else."""

    changes_labels: ClassVar[bool] = True
    kind: Literal["random_inside_boxes"] = "random_inside_boxes"
    share: float = Field(0.5, gt=0, lt=1, description="The chance of each labelled pixel to be hidden.")
    keep: Keep = "boxes"


class EraseInBoxes(_Rectangle, _Referable):
    """Hide one random rectangle in each box, and nothing else."""

    changes_labels: ClassVar[bool] = True
    kind: Literal["erase_in_boxes"] = "erase_in_boxes"
    margin: Margin = 0.0


class Box(_Rectangle):
    """Hide one random rectangle of the image, wherever the labels are, and nothing else."""

    needs_labels: ClassVar[bool] = False
    kind: Literal["box"] = "box"


class BoxesRegrown(_Mask):
    """Hide the labels and nothing else. What is labelled changes: look at the result before you train on it."""

    changes_labels: ClassVar[bool] = True
    kind: Literal["boxes_regrown"] = "boxes_regrown"
    margin: Margin = 0.0
    keep: Keep = "boxes"


class Uploaded(_Mask):
    """Keep what is white in a mask image given with the dataset."""

    needs_labels: ClassVar[bool] = False
    kind: Literal["uploaded"] = "uploaded"


def _of_the_default_kind(asked: Any) -> Any:
    return {"kind": GaussianDistance().kind, **asked} if isinstance(asked, dict) else asked


AnyMask = Annotated[
    GaussianDistance
    | GaussianDistanceAll
    | OutsideBoxes
    | Random
    | RandomInsideBoxes
    | EraseInBoxes
    | Box
    | BoxesRegrown
    | Uploaded,
    Field(discriminator="kind"),
    BeforeValidator(_of_the_default_kind),
]
"""One of the nine; without `kind` it is the default one."""
