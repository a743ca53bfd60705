"""A resolved spec as the sampler's values, for `worker.expand` and `python -m worker.psld` alike."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from shared import operators
from shared.spec import ResolvedSpec
from worker.psld.coarse import sample_large
from worker.psld.jpeg import Jpeg
from worker.psld.operators import Inpaint, MotionBlur, Operator, ReferenceInpaint, downsample, gaussian_blur
from worker.psld.prior import Autoencoder, LatentPrior, Promptable
from worker.psld.sampler import OURS, REFERENCE, Guidance, measure, sample
from worker.psld.smear import smear


def regrow(
    prior: LatentPrior,
    resolved: ResolvedSpec,
    pictures: NDArray[np.float32],
    keep: NDArray[np.bool_] | None,
    seeds: Sequence[int],
    on_step: Callable[[int, int], None],
    guide: Autoencoder | None = None,
    *,
    inside: NDArray[np.bool_] | None,
) -> NDArray[np.float32]:
    """Sample pictures (B, 3, H, W) in [-1, 1] anew from what the operator tells of them, each row by its own seed.

    `keep` (B, H, W) are the masks of an operator that has any, `inside` (B, H, W) is True on the pictures and False on
    their padding, None where there is none. All noise of a row comes from one generator: that of its measurement, of
    its start, of its steps. `guide` is the autoencoder along the walk. Not clamped. Raises what
    `worker.psld.sampler.sample` raises.
    """
    x = torch.from_numpy(pictures).to(prior.device)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    masks = None if keep is None else torch.from_numpy(keep).to(prior.device)
    around = None
    if inside is not None and not resolved.reference:  # whose authors tell all of it
        around = torch.from_numpy(inside).to(prior.device), x.shape[-2] // prior.latent_shape(*x.shape[-2:])[1]
    grown = max(x.shape[-2:]) / resolved.native_size if resolved.native_size else 1.0
    A = operator(resolved, x, _softened(masks, around))
    y = measure(A, x, resolved.operator.noise or 0.0, generators)
    how = guidance(resolved)
    if grown > 1:
        seen = _softened(masks, around, grown)
        first = None if seen is None else (operator(resolved, x, seen), seen[:, None] * y)
        new = sample_large(prior, A, y, generators, how, on_step, guide, coarse=first)
    else:
        start = smear(A, y) if how.enter < 1 else None
        new = sample(prior, A, y, generators, how, start=start, on_step=on_step, guide=guide)
    regrown: NDArray[np.float32] = new.cpu().numpy()
    return regrown


def _softened(masks: Tensor | None, around: tuple[Tensor, int] | None, grown: float = 1.0) -> Tensor | None:
    """Masks (B, H, W) without the padding beside the picture: `around` has where pictures are, and the side of a latent
    pixel, which is `grown` as often as large for a smaller canvas."""
    if masks is None or around is None:
        return masks
    inside, side = around
    reach = ceil(side * grown)
    near = F.max_pool2d(inside[:, None].float(), 2 * reach + 1, stride=1, padding=reach)[:, 0] > 0
    return masks & (inside | ~near)


def told(prior: LatentPrior, resolved: ResolvedSpec) -> LatentPrior:
    """The prior under the prompt of the spec, if there is one. What `told` of a prior raises passes through."""
    said = resolved.conditioning
    if said is None:
        return prior
    if not isinstance(prior, Promptable):
        raise TypeError("this prior cannot be told what to draw")
    return prior.told(said.prompt, said.negative, said.scale)


def measured(resolved: ResolvedSpec, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """What an operator without a mask tells of a picture (3, H, W), without noise."""
    x = torch.from_numpy(picture)[None]
    seen: NDArray[np.float32] = operator(resolved, x, None).forward(x)[0].numpy()
    return seen


def operator(resolved: ResolvedSpec, x: Tensor, keep: Tensor | None) -> Operator:
    """A for images like `x` (B, 3, H, W); `keep` (B, H, W) are the masks of an operator that has any."""
    wanted = resolved.operator
    if isinstance(wanted, operators.Inpaint):
        if keep is None:
            raise ValueError("to inpaint, masks are needed")
        return (ReferenceInpaint if resolved.reference else Inpaint)(keep[:, None])
    return _UNMASKED[wanted.kind](wanted, x)


_UNMASKED: Mapping[str, Callable[[Any, Tensor], Operator]] = MappingProxyType(
    {
        "gaussian_blur": lambda wanted, x: gaussian_blur(x.shape[-2], x.shape[-1], wanted.sigma, x.device),
        "motion_blur": lambda wanted, x: MotionBlur(wanted.length, wanted.angle, x.device),
        "downsample": lambda wanted, x: downsample(x.shape[-2], x.shape[-1], wanted.factor, x.device),
        "jpeg": lambda wanted, x: Jpeg(wanted.quality, x.device),
    }
)


def guidance(resolved: ResolvedSpec) -> Guidance:
    """The numbers of the spec; `reference` brings the authors' conventions, and noise in each predicted measurement."""
    return Guidance(
        steps=resolved.steps,
        gamma=resolved.gamma,
        omega=resolved.omega,
        eta=resolved.eta,
        fresh_noise=(resolved.operator.noise or 0.0) if resolved.reference else 0.0,
        denoiser_gradient=resolved.denoiser_gradient,
        paste=resolved.paste,
        finish=resolved.finish,
        enter=resolved.enter,
        conventions=REFERENCE if resolved.reference else OURS,
    )
