"""The first stage: an autoencoder of random crops."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SQUARES = 4.0
EDGES = 0.5
"""Weights of the squared error and of the error of the edges, beside the absolute error."""


def crops(pictures: NDArray[np.uint8], side: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` random crops, some mirrored and some upside down, (count, 3, side, side) in [-1, 1]."""
    rows = torch.randint(len(pictures), (count,), generator=generator).tolist()
    corners = torch.randint(pictures.shape[-1] - side + 1, (count, 2), generator=generator).tolist()
    flips = torch.randint(2, (count, 2), generator=generator).tolist()
    cut = [
        pictures[row, :, top : top + side, left : left + side][:, :: 1 - 2 * down, :: 1 - 2 * over]
        for row, (top, left), (down, over) in zip(rows, corners, flips, strict=True)
    ]
    return as_floats(np.stack(cut))


def loss(vae: Any, x: Tensor, kl: float, generator: torch.Generator) -> Tensor:
    """How far what comes out is from `x` (B, 3, H, W), with the latents' distance from unit noise weighted by `kl`."""
    posterior = vae.encode(x).latent_dist
    mean, spread = posterior.mean.float(), posterior.std.float()
    n = torch.randn(mean.shape, generator=generator).to(mean)
    error = vae.decode(mean + spread * n).sample.float() - x
    distance = 0.5 * (mean.square() + spread.square() - 1 - 2 * spread.log()).mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + SQUARES * error.square().mean() + EDGES * edges + kl * distance


@torch.no_grad()
def psnr(vae: Any, pictures: NDArray[np.uint8], device: torch.device) -> float:
    """Mean over pictures (N, 3, S, S) of the peak signal-to-noise ratio, in dB, of what comes back of them."""
    found = []
    for picture in pictures:
        x = as_floats(picture[None]).to(device)
        back = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        found.append(float(10 * torch.log10(4 / (back - x).square().mean().clamp_min(1e-10))))
    return sum(found) / len(found)


def as_floats(pictures: NDArray[np.uint8]) -> Tensor:
    """0 .. 255 as float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).float() / 127.5 - 1
