"""Where pictures lie in a feature space that is no prior's own, and how far two sets of them are from each other.

The features are those of a convolutional net with fixed random weights, and the energies of Haar wavelets: nothing in
them was learned, so no prior is favoured. Distances may be compared within one table only.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Pictures = NDArray[np.float32]
Features = NDArray[np.float64]

_SEED = 20230811
_WAVELET_LEVELS = 4


def features(pictures: Pictures) -> Features:
    """(N, F) of grey pictures (N, H, W) in [-1, 1], H and W multiples of 32."""
    x = torch.from_numpy(pictures)[:, None]
    with torch.no_grad():
        parts = [*_of_a_random_net(x), *_of_wavelets(x)]
    stacked: Features = torch.cat(parts, dim=1).double().numpy()
    return stacked


def distance(some: Features, others: Features) -> float:
    """The energy distance (Szekely and Rizzo) of two sets, without bias: about 0 for samples of one distribution."""
    within = [_mean_distance(each, each) * len(each) / (len(each) - 1) for each in (some, others)]
    return 2 * _mean_distance(some, others) - sum(within)


def standardised(real: Features, *sets: Features) -> list[Features]:
    """`real` and the sets, each feature with the mean and spread that it has in `real`."""
    mean, spread = real.mean(axis=0), real.std(axis=0) + 1e-6
    return [(each - mean) / spread / np.sqrt(real.shape[1]) for each in (real, *sets)]


def _mean_distance(a: Features, b: Features) -> float:
    return float(np.linalg.norm(a[:, None] - b[None], axis=-1).mean())


def _of_a_random_net(x: Tensor) -> list[Tensor]:
    """Mean and spread of each channel of five layers."""
    generator = torch.Generator().manual_seed(_SEED)
    found = []
    for channels in (16, 24, 32, 48, 64):
        layer = nn.Conv2d(x.shape[1], channels, 3, stride=2, padding=1)
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * (2 / (9 * x.shape[1])) ** 0.5)
        layer.bias.copy_(torch.randn(channels, generator=generator) * 0.1)  # type: ignore[union-attr]
        x = torch.relu(layer(x))
        found += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
    return found


def _of_wavelets(x: Tensor) -> list[Tensor]:
    """The logarithm of the energy in each band."""
    found = []
    for _ in range(_WAVELET_LEVELS):
        a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
        for band in (a + b - c - d, a - b + c - d, a - b - c + d):
            found.append((band.square().mean(dim=(2, 3)) + 1e-8).log())
        x = (a + b + c + d) / 4
    return found
