"""JPEG as a measurement: what is left of an image after its blocks were rounded (ITU-T T.81)."""

from math import pi

import torch
from torch import Tensor

# Tables K.1 and K.2 of the standard: by how much each frequency is divided at quality 50, blocks of 8 a row.
_BRIGHTNESS = """
16 11 10 16  24  40  51  61    12 12 14 19  26  58  60  55    14 13 16 24  40  57  69  56    14 17 22 29  51  87  80  62
18 22 37 56  68 109 103  77    24 35 55 64  81 104 113  92    49 64 78 87 103 121 120 101    72 92 95 98 112 100 103  99
"""
_COLOUR = """
17 18 24 47 99 99 99 99    18 21 26 66 99 99 99 99    24 26 56 99 99 99 99 99    47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99    99 99 99 99 99 99 99 99    99 99 99 99 99 99 99 99    99 99 99 99 99 99 99 99
"""

_YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


class Jpeg:
    """A x is the image after JPEG of a ``quality`` of 1 to 100, with full chroma and without rounding of grey levels.

    Images are clamped to [-1, 1] first. Rounding has no derivative: in the gradient it counts as none. There is no
    A^T; ``adjoint`` is the identity, so that gluing gives x + y - A x: all that JPEG leaves of x is that of y.
    ValueError for other qualities, and for images whose sides are no multiples of 8.
    """

    measured = 1.0
    step = 1.0

    def __init__(self, quality: int, device: torch.device | str = "cpu") -> None:
        if not 1 <= quality <= 100:
            raise ValueError(f"a JPEG quality lies between 1 and 100, not {quality}")
        self._tables = tables(quality).to(device)[:, None, :, None, :]
        from_rgb = torch.tensor(_YCBCR, dtype=torch.float64)
        self._from_rgb, self._to_rgb = (m.float().to(device) for m in (from_rgb, from_rgb.inverse()))
        self._cosines = _cosines().float().to(device)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError(f"JPEG works on sides that are multiples of 8, not {x.shape[-2]} x {x.shape[-1]}")
        levels = 127.5 * x.clamp(-1, 1) - 0.5  # 0 ... 255 less the 128 that the standard takes off
        planes = torch.einsum("kc,bchw->bkhw", self._from_rgb, levels)
        blocks = planes.view(*planes.shape[:2], x.shape[-2] // 8, 8, x.shape[-1] // 8, 8)
        D = self._cosines
        shares = torch.einsum("ui,bkyixj,vj->bkyuxv", D, blocks, D) / self._tables
        rounded = shares + (shares.round() - shares).detach()
        blocks = torch.einsum("ui,bkyuxv,vj->bkyixj", D, rounded * self._tables, D)
        planes = blocks.flatten(-2).flatten(-3, -2)
        return (torch.einsum("ck,bkhw->bchw", self._to_rgb, planes) + 0.5) / 127.5

    def adjoint(self, y: Tensor) -> Tensor:
        return y


def tables(quality: int) -> Tensor:
    """The divisors (3, 8, 8) of brightness and of the two colours at a quality, as the IJG's library scales them."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    brightness, colour = (torch.tensor([int(n) for n in table.split()]).view(8, 8) for table in (_BRIGHTNESS, _COLOUR))
    return ((torch.stack([brightness, colour, colour]) * percent + 50) // 100).clamp(1, 255).float()


def _cosines() -> Tensor:
    """The orthonormal 8-point DCT as a matrix (frequency, place), float64."""
    u, i = torch.arange(8).double()[:, None], torch.arange(8).double()
    D = torch.cos(pi * (2 * i + 1) * u / 16) / 2
    D[0] /= 2**0.5
    return D
