"""What the sampler needs of a latent diffusion model."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class Autoencoder(Protocol):
    """Makes latents of images, and images of latents; see `LatentPrior` for both."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the latent of an image: the mode of the encoder's posterior, no draw."""

    def decode(self, z: Tensor) -> Tensor:
        """Return the image of a latent, not clamped."""


class LatentPrior(Autoencoder, Protocol):
    """An autoencoder and a denoiser in its latent space, both frozen and both differentiable in their input.

    Images are float32 (B, 3, H, W) in [-1, 1] with H and W multiples of ``multiple``; latents are float32
    (B, C, h, w), already scaled to the unit variance the denoiser was trained on.
    """

    @property
    def alpha_bar(self) -> Tensor:
        """(T,) float32, falling, each in (0, 1): z_t = sqrt(alpha_bar[t]) z_0 + sqrt(1 - alpha_bar[t]) noise."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and where inputs must be."""

    @property
    def multiple(self) -> int:
        """Both sides of a canvas, in pixels, must be multiples of this: autoencoder factor times U-Net factor."""

    @property
    def native_size(self) -> int:
        """The side, in pixels, of the images the denoiser was trained on."""

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        """Return the noise predicted in ``z`` (B, C, h, w) at time steps ``t`` (B,), int64 in [0, T)."""

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (C, h, w) for a canvas; ValueError where a side is not a multiple of ``multiple``."""


@runtime_checkable
class Promptable(Protocol):
    """A prior that can be told what to draw."""

    def told(self, prompt: str, negative: str, scale: float) -> LatentPrior:
        """Return the prior under a prompt: what that predicts beyond ``negative`` counts ``scale`` times."""
