"""Measurement operators A and their adjoints.

All take images float32 (B, 3, H, W) in [-1, 1] and act on each row and each channel by itself.
"""

from math import ceil, cos, radians, sin
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Operator(Protocol):
    """A linear measurement of images: y = A x; `worker.psld.jpeg.Jpeg` alone is not linear."""

    @property
    def step(self) -> float:
        """lam = 1 / ||A||^2, the step of gluing: x + lam A^T (y - A x)."""

    @property
    def measured(self) -> Tensor | float:
        """1 where A x holds a measurement, which may carry noise, and 0 elsewhere; spreads over A x."""

    def forward(self, x: Tensor) -> Tensor:
        """Return A x for images (B, 3, H, W)."""

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, shaped as the images that A takes; where A is not linear, what stands in for it."""


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


class Separable:
    """A x = R x C^T: ``rows`` R (h, H) works on the columns of an image, ``columns`` C (w, W) on its rows."""

    measured = 1.0

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        self._rows, self._columns = rows.float(), columns.float()
        # The norm of a Kronecker product is the product of the norms.
        self.step = 1 / (_squared_norm(rows) * _squared_norm(columns))

    def forward(self, x: Tensor) -> Tensor:
        return self._rows @ x @ self._columns.T

    def adjoint(self, y: Tensor) -> Tensor:
        return self._rows.T @ y @ self._columns


def gaussian_blur(height: int, width: int, sigma: float, device: torch.device | str = "cpu") -> Separable:
    """Return A that blurs by a Gaussian of standard deviation ``sigma`` pixels, cut at 4 sigma, edges mirrored."""
    return Separable(*(_gaussian(n, sigma).to(device) for n in (height, width)))


def downsample(height: int, width: int, factor: int, device: torch.device | str = "cpu") -> Separable:
    """Return A that makes images ``factor`` times smaller, antialiased by a cubic stretched as far.

    That is what Pillow calls bicubic. ValueError unless both sides are multiples of ``factor``.
    """
    return Separable(*(_cubic(n, factor).to(device) for n in (height, width)))


class MotionBlur:
    """Averages along a line of ``length`` pixels at ``angle`` degrees, anticlockwise from the horizontal.

    Edges wrap around: ||A|| is then 1 exactly. A line through its centre is its own mirror image, so A is its own
    adjoint. ValueError unless ``length`` is at least 1.
    """

    measured = 1.0
    step = 1.0

    def __init__(self, length: int, angle: float, device: torch.device | str = "cpu") -> None:
        if length < 1:
            raise ValueError(f"a motion blur's length must be at least 1, not {length}")
        self._kernel = _line(length, angle).to(device)

    def forward(self, x: Tensor) -> Tensor:
        reach = self._kernel.shape[-1] // 2
        planes = F.pad(x.flatten(0, 1)[:, None], (reach,) * 4, mode="circular")
        return F.conv2d(planes, self._kernel[None, None]).view_as(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)


def _squared_norm(matrix: Tensor) -> float:
    """The largest eigenvalue of the smaller of M M^T and M^T M, on the CPU in float64."""
    m = matrix.double().cpu()
    return float(torch.linalg.eigvalsh(m @ m.T if len(m) < m.shape[1] else m.T @ m)[-1])


def _gaussian(n: int, sigma: float) -> Tensor:
    """(n, n) float64."""
    reach = ceil(4 * sigma)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-(offsets.double() ** 2) / (2 * sigma**2))
    # Mirrored at the outer side of the edge pixels, as often as the kernel is longer than the image.
    places = (torch.arange(n)[:, None] + offsets) % (2 * n)
    places = torch.where(places < n, places, 2 * n - 1 - places)
    return torch.zeros(n, n).double().scatter_add_(1, places, (weights / weights.sum()).expand(n, -1))


def _cubic(n: int, factor: int) -> Tensor:
    """(n / factor, n) float64; the cubic is that of Keys (1981), a = -1/2, cut at the edges and made to sum to 1."""
    if n % factor:
        raise ValueError(f"the sides of an image must be multiples of {factor}, not {n}")
    centres = (torch.arange(n // factor).double()[:, None] + 0.5) * factor
    d = (torch.arange(n).double() + 0.5 - centres).abs() / factor
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    weights = torch.where(d < 1, near, torch.where(d < 2, far, 0.0))
    return weights / weights.sum(dim=1, keepdim=True)


def _line(length: int, angle: float) -> Tensor:
    """A kernel (2k + 1, 2k + 1) that sums to 1: points one pixel apart, each shared among the four pixels around it."""
    k = ceil((length - 1) / 2)
    along = torch.arange(length).double() - (length - 1) / 2
    x, y = along * cos(radians(angle)), -along * sin(radians(angle))
    grid = torch.arange(-k, k + 1)
    shares_x, shares_y = ((1 - (grid - place[:, None]).abs()).clamp(min=0) for place in (x, y))
    kernel = shares_y.T @ shares_x
    kernel = (kernel + kernel.flip(0, 1)) / 2  # symmetric to the last bit
    return (kernel / kernel.sum()).float()
