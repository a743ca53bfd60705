"""The second stage: a denoiser of latents, which are made once."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from worker.psld.sampler import ddim
from worker.psld.schedule import walk
from worker.training.autoencoder import as_floats, noise
from worker.training.pictures import Pictures

VIEWS = 8
"""Latents made of each picture: as it is, mirrored, and the rest of windows of the larger square.

A window shows from the whole down to the larger square's own pixels, each ratio of sizes as often as another: on a
canvas larger than its native size the denoiser sees tiles, which show as little.
"""

SNR_LIMIT = 5.0
"""Steps with less noise than this ratio of signal to it count as much as this (Hang et al., Min-SNR, 2303.09556)."""

_TIMES = 4
_ALL = 0.99
_PREVIEW_SEED = 20230811


def views(pictures: Pictures, row: int, generator: torch.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One picture's (VIEWS, 3, s, s), and where they are known, (VIEWS, s, s)."""
    large, native, area = pictures.large[row], pictures.native[row], pictures.known_native[row]
    side, small = large.shape[-1], native.shape[-1]
    made, known = [native, native[:, :, ::-1]], [area, area[:, ::-1]]
    for number in range(VIEWS - len(made)):
        over = number % 2
        window = round(side * (small / side) ** float(torch.rand((), generator=generator)))
        top, left = torch.randint(side - window + 1, (2,), generator=generator).tolist()
        cut = Image.fromarray(np.moveaxis(large[:, top : top + window, left : left + window], 0, 2))
        scaled = np.moveaxis(np.asarray(cut.resize((small, small), Image.Resampling.BICUBIC)), 2, 0)
        made.append(scaled[:, :, :: 1 - 2 * over])
        area = pictures.known_large[row, top : top + window, left : left + window]
        shares = np.asarray(Image.fromarray(area.astype(np.float32)).resize((small, small), Image.Resampling.BOX))
        known.append(shares[:, :: 1 - 2 * over] > _ALL)
    return np.stack(made), np.stack(known)


@torch.no_grad()
def encode(vae: Any, pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Latents (N, C, h, w) on the CPU, not scaled, of pictures (N, 3, s, s)."""
    z: Tensor = vae.encode(as_floats(pictures).to(device)).latent_dist.mode()
    return z.cpu()


def known_cells(known: NDArray[np.bool_], cells: int) -> Tensor:
    """(N, 1, cells, cells): which cells of a latent have known pixels (N, s, s) only."""
    hidden = torch.from_numpy(~known)[:, None].float()
    return torch.nn.functional.max_pool2d(hidden, known.shape[-1] // cells) == 0


def loss(
    unet: Any,
    z: Tensor,
    known: Tensor,
    alpha_bar: Tensor,
    generator: torch.Generator,
    *,
    further: float = 0,
    which: Tensor | None = None,
) -> Tensor:
    """The error of the noise predicted in `z` (B, C, h, w) at random times, one in each B-th of them.

    Where `known` (B, 1, h, w) is False, the denoiser sees noise without a signal, and no error counts. Where the noise
    is stronger than the signal, `further` of the cells are hidden from it as well, and their errors do count: so it
    must guess what it does not see, and cannot learn that what is unknown is empty (Daras et al., Ambient Diffusion,
    2305.19256, equation 3.2; docs/priors.md). `which` (B,) are the prompts of a denoiser that has several.
    """
    T, B = len(alpha_bar), len(z)
    t = ((torch.arange(B) + torch.rand(B, generator=generator)) * T / B).long().clamp(max=T - 1)
    n = noise(z.shape, generator, z.device).to(z)
    ab = alpha_bar[t].to(z)[:, None, None, None]
    seen = known
    if further:
        seen = known & ~(_blocks(z, further, generator) & (ab < 0.5))
    z_t = ab.sqrt() * z * seen + (1 - ab).sqrt() * n
    e = unet(z_t, t.to(z.device), **({} if which is None else {"which": which})).sample.float()
    truth = (z_t - ab.sqrt() * z) / (1 - ab).sqrt()
    weight = (SNR_LIMIT * (1 - ab) / ab).clamp(max=1) * known
    mean: Tensor = (weight * (e - truth).square()).mean() / known.float().mean().clamp_min(1e-3)
    return mean


def _blocks(z: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """(B, 1, h, w): True in about `share` of the cells, in blocks of 2 x 2."""
    B, _, h, w = z.shape
    drawn = torch.rand((B, 1, -(-h // 2), -(-w // 2)), generator=generator) < share
    return drawn.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, :h, :w].to(z.device)


@torch.no_grad()
def held_out_loss(
    unet: Any, z: Tensor, known: Tensor, alpha_bar: Tensor, device: torch.device, which: Tensor | None = None
) -> float:
    """The mean squared error of the noise predicted in `z` (N, C, h, w) at fixed times, with fixed noise.

    It is that of `known` cells (N, 1, h, w); the others show no signal. `which` (N,) as in `loss`.
    """
    generator = torch.Generator().manual_seed(0)
    T, found = len(alpha_bar), []
    for row, (one, area) in enumerate(zip(z, known, strict=True)):
        t = torch.tensor([((4 * k + row % 4 + 0.5) * T / (4 * _TIMES)) for k in range(_TIMES)]).long()
        n = torch.randn((_TIMES, *one.shape), generator=generator)
        ab = alpha_bar[t][:, None, None, None]
        told = {} if which is None else {"which": which[row].expand(_TIMES)}
        e = unet((ab.sqrt() * one * area + (1 - ab).sqrt() * n).to(device), t.to(device), **told).sample.cpu()
        found.append(float(((e - n).square() * area).mean() / area.float().mean().clamp_min(1e-3)))
    return sum(found) / len(found)


@torch.no_grad()
def draw(unet: Any, alpha_bar: Tensor, count: int, steps: int, device: torch.device, *, first: int = 0) -> Tensor:
    """Sample `count` latents (count, C, h, w) by DDIM: those from the `first` on in a row that never changes."""
    side = unet.config.sample_size
    seeds = [torch.Generator().manual_seed(_PREVIEW_SEED + first + row) for row in range(count)]
    z = torch.stack([torch.randn((unet.config.in_channels, side, side), generator=each) for each in seeds]).to(device)
    for step in walk(alpha_bar, steps):
        e = unet(z, torch.full((count,), step.t, device=device)).sample
        z0 = (z - (1 - step.ab) ** 0.5 * e) / step.ab**0.5
        z = ddim(z0, e, step, 0.0, None)
    return z


@torch.no_grad()
def decode(vae: Any, z: Tensor, scale: float) -> NDArray[np.uint8]:
    """Pictures (N, 3, H, W) of scaled latents."""
    x = torch.cat([vae.decode(one[None] / scale).sample for one in z])
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
