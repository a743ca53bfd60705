"""The first stage: an autoencoder of random crops."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SQUARES = 4.0
EDGES = 0.5
"""Weights of the squared error and of the error of the edges, beside the absolute error."""


def crops(
    pictures: NDArray[np.uint8], known: NDArray[np.bool_], side: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`count` random crops, some mirrored and some upside down, (count, 3, side, side) in [-1, 1].

    And the same crops of `known`, as (count, 1, side, side), 1 where it is True.
    """
    rows = torch.randint(len(pictures), (count,), generator=generator).tolist()
    corners = torch.randint(pictures.shape[-1] - side + 1, (count, 2), generator=generator).tolist()
    flips = torch.randint(2, (count, 2), generator=generator).tolist()
    cut, areas = [], []
    for row, (top, left), (down, over) in zip(rows, corners, flips, strict=True):
        there = np.s_[..., top : top + side, left : left + side]
        flip = np.s_[..., :: 1 - 2 * down, :: 1 - 2 * over]
        cut.append(pictures[row][there][flip])
        areas.append(known[row][there][flip])
    return as_floats(np.stack(cut)), torch.from_numpy(np.stack(areas)[:, None]).float()


def loss(vae: Any, x: Tensor, known: Tensor, kl: float, generator: torch.Generator) -> Tensor:
    """How far what comes out is from `x` (B, 3, H, W) where `known` (B, 1, H, W) is 1.

    The latents' distance from unit noise is added, weighted by `kl`.
    """
    posterior = vae.encode(x).latent_dist
    mean, spread = posterior.mean.float(), posterior.std.float()
    n = noise(mean.shape, generator, mean.device).to(mean)
    error = (vae.decode(mean + spread * n).sample.float() - x) * known
    distance = 0.5 * (mean.square() + spread.square() - 1 - 2 * spread.log()).mean()
    total: Tensor = size(error) / known.mean().clamp_min(1e-3) + kl * distance
    return total


def size(error: Tensor) -> Tensor:
    """How much an error of pictures (B, 3, H, W) matters."""
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + SQUARES * error.square().mean() + EDGES * edges


def one_cycle(step: int, steps: int) -> float:
    """Share of the highest learning rate: up for a twentieth of the steps, then down to 0 along a cosine."""
    rise = max(1, steps // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@torch.no_grad()
def psnr(vae: Any, pictures: NDArray[np.uint8], known: NDArray[np.bool_], device: torch.device) -> float:
    """Mean over pictures (N, 3, S, S) of the signal-to-noise ratio, in dB, of what comes back where they are known."""
    found = []
    for picture, area in zip(pictures, known, strict=True):
        x = as_floats(picture[None]).to(device)
        back = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        squares = (back - x).square()[:, :, torch.from_numpy(area).to(device)]
        found.append(float(10 * torch.log10(4 / squares.mean().clamp_min(1e-10))))
    return sum(found) / len(found)


def noise(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Unit noise on `device`. Another than the CPU draws it itself, which is faster, from a seed of `generator`."""
    if device.type == "cpu":
        return torch.randn(shape, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def as_floats(pictures: NDArray[np.uint8]) -> Tensor:
    """0 .. 255 as float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).float() / 127.5 - 1
