"""A latent prior whose every answer is known in closed form."""

import torch
from torch import Tensor


class GaussianPrior:
    """Latents ~ N(mean, cov), an exact noise predictor, and an autoencoder that mixes the three channels linearly.

    ``mean`` (3 * h * w,), ``cov`` (3 * h * w, 3 * h * w), ``decoder`` and ``encoder`` (3, 3).
    """

    multiple = 1
    native_size = 4
    device = torch.device("cpu")

    def __init__(self, mean: Tensor, cov: Tensor, decoder: Tensor, encoder: Tensor) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alpha_bar = torch.cumprod(1 - betas, 0).float()
        self.mean, self.cov, self.decoder, self.encoder = mean, cov, decoder, encoder
        self._variances, self._axes = torch.linalg.eigh(cov.double())

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 3, height, width

    def decode(self, z: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", self.decoder, z)

    def encode(self, x: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", self.encoder, x)

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        """sqrt(1 - ab) (ab cov + (1 - ab) I)^-1 (z - sqrt(ab) mean), the noise expected in z."""
        ab = self.alpha_bar.double()[t][:, None]
        along_axes = (z.flatten(1) - ab.sqrt() * self.mean) @ self._axes
        e = (1 - ab).sqrt() * along_axes / (ab * self._variances + 1 - ab)
        return (e @ self._axes.T).float().view_as(z)


ROTATION = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))[0].contiguous()


def correlated(side: int = 4, *, rotation: Tensor = ROTATION) -> GaussianPrior:
    """Smooth images of side x side pixels whose channels go together, rotated into the latent channels."""
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()
    smooth = torch.exp(-(torch.cdist(places, places) ** 2) / (2 * 1.5**2)) + 0.05 * torch.eye(side**2)
    cov = 0.25 * torch.kron((0.5 * torch.eye(3) + 0.5).double(), smooth)
    return GaussianPrior(torch.full((3 * side**2,), 0.2), cov.float(), rotation, rotation.T.contiguous())
