"""Where pictures lie in a feature space that is no prior's own, and how far two sets of them are from each other.

The features are those of a convolutional net with fixed random weights, and the energies of Haar wavelets: nothing in
them was learned, so no prior is favoured. Distances to the same real pictures may be compared.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Pictures = NDArray[np.float32]
Features = NDArray[np.float64]

_SEED = 20230811
_WAVELET_LEVELS = 4
_LEAST_SPREAD = 1e-3


def features(pictures: Pictures) -> Features:
    """(N, F) of grey pictures (N, H, W) in [-1, 1], H and W multiples of 32."""
    x = torch.from_numpy(pictures)[:, None]
    with torch.no_grad():
        parts = [*_of_a_random_net(x), *_of_wavelets(x)]
    stacked: Features = torch.cat(parts, dim=1).double().numpy()
    return stacked


def contributions(real: Features, regrown: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, N): what each pair of images adds to the energy distance (Szekely and Rizzo) of real ones (N, F) to those
    regrown of each, (N, V, F)."""
    one = real[:, None]
    return 2 * _mean_distances(one, regrown) - _mean_distances(one, one) - _mean_distances(regrown, regrown)


def distance(found: NDArray[np.float64], drawn: NDArray[np.int64] | None = None) -> float:
    """The energy distance of `contributions`, of each image as often as it was `drawn`, (N,): about 0 for samples of
    one distribution. No image meets itself, or what was regrown of it, which is nearer than chance."""
    often = np.ones(len(found)) if drawn is None else drawn
    pairs = np.outer(often, often).astype(float)
    np.fill_diagonal(pairs, 0)
    return float((pairs * found).sum() / pairs.sum())


def interval(found: NDArray[np.float64], first: NDArray[np.float64], resamples: int = 2000) -> tuple[float, float]:
    """95 % of the difference of two distances, of `contributions` with the same real images, which are drawn anew."""
    rng, count = np.random.default_rng(0), len(found)
    drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(resamples)]
    low, high = np.percentile([distance(found, each) - distance(first, each) for each in drawn], [2.5, 97.5])
    return float(low), float(high)


def standardised(real: Features, *sets: Features) -> list[Features]:
    """`real` and the sets, each feature with the mean and spread that it has in `real`.

    Features that hardly vary there, of channels that are hardly ever above 0, are left out: the first image to wake one
    would count for all of them.
    """
    mean, spread = real.mean(axis=0), real.std(axis=0)
    tells = spread > _LEAST_SPREAD
    return [(each - mean)[:, tells] / spread[tells] / np.sqrt(tells.sum()) for each in (real, *sets)]


def _mean_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) of pictures in several variants, (N, V, F) and (M, W, F)."""
    return np.array([[np.linalg.norm(one[:, None] - other[None], axis=-1).mean() for other in b] for one in a])


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
