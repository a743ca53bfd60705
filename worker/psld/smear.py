"""A first guess of an image: what is measured, smeared over what is not."""

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.psld.operators import Operator

_NOTHING = 1e-6


def smear(operator: Operator, y: Tensor) -> Tensor:
    """Return images (B, 3, H, W) in [-1, 1]: A^T y over A^T A 1, and where nothing is told, means of ever wider places.

    With a mask that is each kept pixel as it is, and elsewhere what is kept nearby (pull and push: Gortler et al., The
    Lumigraph, 1996). Grey if y tells of no place at all.
    """
    seen = operator.adjoint(y)
    told = operator.adjoint(operator.forward(torch.ones_like(seen))).clamp(min=0)
    weight = told / told.flatten(1).amax(dim=1).clamp(min=_NOTHING)[:, None, None, None]
    return _filled(_over(seen, told), weight).clamp(-1, 1)


def _filled(mean: Tensor, weight: Tensor) -> Tensor:
    """``mean`` where its ``weight`` is 1; the less it is, the more of the same at half the size."""
    height, width = mean.shape[-2:]
    if max(height, width) == 1:
        return mean
    halved = _halved(weight)
    coarser = _over(_halved(mean * weight), halved)
    # A place of four pixels counts as known when one of them is: what is farther away is not to water it down.
    below = F.interpolate(_filled(coarser, (4 * halved).clamp(max=1)), (height, width), mode="bilinear")
    return weight * mean + (1 - weight) * below


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True)


def _over(x: Tensor, share: Tensor) -> Tensor:
    return torch.where(share > _NOTHING, x / share.clamp(min=_NOTHING), 0.0)
