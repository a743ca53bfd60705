"""A small prior without weights, to see tiles with."""

import torch
from torch import Tensor

TILE = 8


class Toy:
    """A prior for 32 px and 8 x 8 latents, whose estimate of a pixel depends on the whole tile and on nothing else."""

    alpha_bar = torch.linspace(0.99, 0.01, 10)
    device = torch.device("cpu")
    multiple = 8
    native_size = 4 * TILE

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        self.seen.append(tuple(z.shape[-2:]))
        ramp = torch.arange(z.shape[-1]) + 10.0 * torch.arange(z.shape[-2])[:, None]
        return torch.sin(z * ramp / 20) + z.mean(dim=(-2, -1), keepdim=True) * t[:, None, None, None]

    def encode(self, x: Tensor) -> Tensor:
        return x[..., ::4, ::4]

    def decode(self, z: Tensor) -> Tensor:
        return z.repeat_interleave(4, -1).repeat_interleave(4, -2)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 3, height // 4, width // 4


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))
