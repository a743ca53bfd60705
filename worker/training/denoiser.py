"""The second stage: a denoiser of latents, which are made once."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from worker.psld.sampler import ddim
from worker.psld.schedule import walk
from worker.training.autoencoder import as_floats

VIEWS = 4
"""Latents made of each picture: as it is, mirrored, and the rest of windows of the larger square."""
SMALLEST_WINDOW = 0.7

SNR_LIMIT = 5.0
"""Steps with less noise than this ratio of signal to it count as much as this (Hang et al., Min-SNR, 2303.09556)."""

_TIMES = 4
_PREVIEW_SEED = 20230811


def views(large: NDArray[np.uint8], native: NDArray[np.uint8], generator: torch.Generator) -> NDArray[np.uint8]:
    """One picture's (VIEWS, 3, s, s), from its squares (3, S, S) and (3, s, s)."""
    side, small = large.shape[-1], native.shape[-1]
    made = [native, native[:, :, ::-1]]
    for over in range(VIEWS - len(made)):
        share = max(SMALLEST_WINDOW, small / side)
        window = round(side * (share + (1 - share) * float(torch.rand((), generator=generator))))
        top, left = torch.randint(side - window + 1, (2,), generator=generator).tolist()
        cut = Image.fromarray(np.moveaxis(large[:, top : top + window, left : left + window], 0, 2))
        scaled = np.moveaxis(np.asarray(cut.resize((small, small), Image.Resampling.BICUBIC)), 2, 0)
        made.append(scaled[:, :, :: 1 - 2 * over])
    return np.stack(made)


@torch.no_grad()
def encode(vae: Any, pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Latents (N, C, h, w) on the CPU, not scaled, of pictures (N, 3, s, s)."""
    z: Tensor = vae.encode(as_floats(pictures).to(device)).latent_dist.mode()
    return z.cpu()


def loss(unet: Any, z: Tensor, alpha_bar: Tensor, generator: torch.Generator) -> Tensor:
    """The mean squared error of the noise predicted in `z` (B, C, h, w) at random times, one in each B-th of them."""
    T, B = len(alpha_bar), len(z)
    t = ((torch.arange(B) + torch.rand(B, generator=generator)) * T / B).long().clamp(max=T - 1)
    n = torch.randn(z.shape, generator=generator).to(z)
    ab = alpha_bar[t].to(z)[:, None, None, None]
    e = unet(ab.sqrt() * z + (1 - ab).sqrt() * n, t.to(z.device)).sample.float()
    weight = (SNR_LIMIT * (1 - ab) / ab).clamp(max=1)
    return (weight * (e - n).square()).mean()


@torch.no_grad()
def held_out_loss(unet: Any, z: Tensor, alpha_bar: Tensor, device: torch.device) -> float:
    """The mean squared error of the noise predicted in `z` (N, C, h, w) at fixed times, with fixed noise."""
    generator = torch.Generator().manual_seed(0)
    T, found = len(alpha_bar), []
    for row, one in enumerate(z):
        t = torch.tensor([((4 * k + row % 4 + 0.5) * T / (4 * _TIMES)) for k in range(_TIMES)]).long()
        n = torch.randn((_TIMES, *one.shape), generator=generator)
        ab = alpha_bar[t][:, None, None, None]
        e = unet((ab.sqrt() * one + (1 - ab).sqrt() * n).to(device), t.to(device)).sample
        found.append(float((e.cpu() - n).square().mean()))
    return sum(found) / len(found)


@torch.no_grad()
def draw(unet: Any, alpha_bar: Tensor, count: int, steps: int, device: torch.device) -> Tensor:
    """Sample `count` latents (count, C, h, w) by DDIM from noise that is always the same."""
    side = unet.config.sample_size
    n = torch.randn((count, unet.config.in_channels, side, side), generator=torch.Generator().manual_seed(_PREVIEW_SEED))
    z = n.to(device)
    for step in walk(alpha_bar, steps):
        e = unet(z, torch.full((count,), step.t, device=device)).sample
        z0 = (z - (1 - step.ab) ** 0.5 * e) / step.ab**0.5
        z = ddim(z0, e, step, 0.0, None)
    return z


@torch.no_grad()
def decode(vae: Any, z: Tensor) -> NDArray[np.uint8]:
    """Pictures (N, 3, H, W) of scaled latents."""
    x = torch.cat([vae.decode(one[None] / vae.config.scaling_factor).sample for one in z])
    pixels: NDArray[np.uint8] = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()
    return pixels


def grid(pictures: NDArray[np.uint8]) -> Image.Image:
    """Pictures (N, 3, H, W) beside and below each other, in rows of up to eight."""
    columns = min(8, len(pictures))
    rows = -(-len(pictures) // columns)
    side = pictures.shape[-1]
    sheet = np.zeros((rows * side, columns * side, 3), np.uint8)
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = np.moveaxis(picture, 0, 2)
    return Image.fromarray(sheet)
