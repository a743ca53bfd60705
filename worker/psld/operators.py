"""Measurement operators A and their adjoints."""

from typing import Protocol

from torch import Tensor


class Operator(Protocol):
    """A linear measurement of images: y = A x. Acts on each row of a batch by itself."""

    @property
    def step(self) -> float:
        """lam = 1 / ||A||^2, the step of gluing: x + lam A^T (y - A x)."""

    @property
    def measured(self) -> Tensor | float:
        """1 where A x holds a measurement, which may carry noise, and 0 elsewhere; spreads over A x."""

    def forward(self, x: Tensor) -> Tensor:
        """Return A x for images (B, 3, H, W)."""

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, shaped as the images that A takes."""


class Inpaint:
    """Keeps the pixels where ``mask`` is 1: A x = mask * x, which is its own adjoint.

    ``mask`` is (B, 1, H, W) or (1, 1, H, W), 1 = kept, 0 = hidden, nothing between; else ValueError.
    """

    step = 1.0

    def __init__(self, mask: Tensor) -> None:
        if mask.ndim != 4 or mask.shape[1] != 1:
            raise ValueError(f"a mask must be (B, 1, H, W), not {tuple(mask.shape)}")
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError("a mask must be 0 (hidden) or 1 (kept) everywhere")
        self.mask = mask.float()

    @property
    def measured(self) -> Tensor | float:
        return self.mask

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.mask * y


class ReferenceInpaint(Inpaint):
    """Inpainting as the authors' code has it: hidden pixels are measured too, as noise about zero, and glued in.

    What their code calls the transpose is the identity, so this is no law-abiding operator; it is for comparison.
    """

    @property
    def measured(self) -> Tensor | float:
        return 1.0

    def adjoint(self, y: Tensor) -> Tensor:
        return y
