"""Latents larger than a denoiser was trained on, seen through overlapping tiles of its own size.

Bar-Tal et al., MultiDiffusion: Fusing Diffusion Paths for Controlled Image Generation (2023).
"""

from math import ceil

import torch
from torch import Tensor

from worker.psld.prior import LatentPrior

OVERLAP = 1 / 8
"""Of a tile's side, at least, that it shares with its neighbour."""


class Tiled:
    """A `LatentPrior` whose denoiser works on any size of latents, however small it was trained.

    The estimates of overlapping tiles are blended with weights that fall linearly towards a tile's edge and sum to one
    at each place. Latents that fit one tile are the prior's own business, unchanged.
    """

    def __init__(self, prior: LatentPrior) -> None:
        self._prior = prior
        self.alpha_bar = prior.alpha_bar
        self.device = prior.device
        self.multiple = prior.multiple
        self.native_size = prior.native_size
        self._tile = prior.latent_shape(prior.native_size, prior.native_size)[1]

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        height, width = z.shape[-2:]
        if max(height, width) <= self._tile:
            return self._prior.eps(z, t)
        rows, columns = spans(height, self._tile), spans(width, self._tile)
        down, across = (w.to(z.device) for w in (weights(height, self._tile), weights(width, self._tile)))
        # Tile by tile: what is seen at once, and so the memory without a gradient, is what the denoiser was made for.
        e = torch.zeros_like(z)
        for row, w_row in zip(rows, down, strict=True):
            for column, w_column in zip(columns, across, strict=True):
                part = self._prior.eps(z[..., row, column], t)
                e = e + _placed(part * w_row[row, None] * w_column[column], z, row, column)
        return e

    def encode(self, x: Tensor) -> Tensor:
        return self._prior.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return self._prior.decode(z)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return self._prior.latent_shape(height, width)


def spans(side: int, tile: int) -> list[slice]:
    """The places of tiles along a side, evenly spread from end to end; one that spans it where it fits a tile."""
    if side <= tile:
        return [slice(0, side)]
    count = ceil((side - tile) / (tile * (1 - OVERLAP))) + 1
    starts = [round(k * (side - tile) / (count - 1)) for k in range(count)]
    return [slice(start, start + tile) for start in starts]


def weights(side: int, tile: int) -> Tensor:
    """(tiles, side) float32: the share of each of `spans` in each place, zero outside of it; they sum to one."""
    places = torch.arange(side)
    hats = [
        torch.minimum(places - span.start + 1, span.stop - places).clamp(min=0).double() for span in spans(side, tile)
    ]
    stacked = torch.stack(hats)
    return (stacked / stacked.sum(dim=0)).float()


def _placed(part: Tensor, like: Tensor, row: slice, column: slice) -> Tensor:
    """Zeros but for one tile, as a function that has a gradient."""
    height, width = like.shape[-2:]
    edges = (column.start, width - column.stop, row.start, height - row.stop)
    return torch.nn.functional.pad(part, edges)
