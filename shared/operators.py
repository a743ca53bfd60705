"""What of an image the model is told, as a user asks for it; the operators themselves are in `worker.psld`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from shared.masks import AnyMask, GaussianDistance
from shared.strict import Strict


class Measured(Strict):
    """What every operator has."""

    noise: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Standard deviation of Gaussian noise in what is measured, the image's range being [-1, 1]; left "
        "out: none, or the authors' 0.05 with the preset `reference`.",
    )

    def misfit(self, side: int) -> str | None:  # noqa: ARG002  (for those that do not fit every canvas)
        """Why it cannot work on a canvas of `side` x `side` pixels, if it cannot."""
        return None


class Inpaint(Measured):
    """Hide pixels and regrow them."""

    kind: Literal["inpaint"] = "inpaint"
    mask: AnyMask = Field(GaussianDistance(), description="Which pixels are kept.")


class GaussianBlur(Measured):
    """Blur the image, and find a sharp one that blurs to the same."""

    kind: Literal["gaussian_blur"] = "gaussian_blur"
    sigma: float = Field(2.0, ge=0.1, le=64, description="Standard deviation of the blur, in pixels of the canvas.")


class MotionBlur(Measured):
    """Blur the image along a line, and find one without."""

    kind: Literal["motion_blur"] = "motion_blur"
    length: int = Field(9, ge=2, le=255, description="Length of the line, in pixels of the canvas.")
    angle: float = Field(0.0, ge=0, lt=180, description="Its angle to the horizontal, in degrees anticlockwise.")

    def misfit(self, side: int) -> str | None:
        return (
            None if self.length <= side else f"operator.length: {self.length} pixels are more than a canvas of {side}"
        )


class Downsample(Measured):
    """Make the image smaller, and find one at full size that gets as small."""

    kind: Literal["downsample"] = "downsample"
    factor: int = Field(4, ge=2, le=16, description="How many times smaller each side gets (antialiased, bicubic).")

    def misfit(self, side: int) -> str | None:
        return (
            f"operator.factor: {self.factor} does not divide the canvas' side of {side}" if side % self.factor else None
        )


class Jpeg(Measured):
    """Compress the image, and find one that compresses to the same."""

    kind: Literal["jpeg"] = "jpeg"
    quality: int = Field(20, ge=1, le=100, description="JPEG quality; the lower, the more is left to the model.")

    def misfit(self, side: int) -> str | None:
        return f"operator: jpeg needs a canvas in multiples of 8 pixels, not {side}" if side % 8 else None


def _inpaint_unless_said(value: Any) -> Any:
    return {"kind": "inpaint", **value} if isinstance(value, dict) and "kind" not in value else value


Operator = Annotated[
    Annotated[Inpaint | GaussianBlur | MotionBlur | Downsample | Jpeg, Field(discriminator="kind")],
    BeforeValidator(_inpaint_unless_said),
]
