"""A resolved spec as the sampler's values, for `worker.expand` and `python -m worker.psld` alike."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.spec import ResolvedSpec
from worker.psld.operators import Inpaint, Operator, ReferenceInpaint
from worker.psld.prior import LatentPrior
from worker.psld.sampler import OURS, REFERENCE, Guidance, measure, sample


def regrow(
    prior: LatentPrior,
    resolved: ResolvedSpec,
    pictures: NDArray[np.float32],
    keep: NDArray[np.bool_],
    seeds: Sequence[int],
    on_step: Callable[[int, int], None],
) -> NDArray[np.float32]:
    """Sample pictures (B, 3, H, W) in [-1, 1] anew, all but what `keep` (B, H, W) says; each row by its own seed.

    All noise of a row comes from one generator: that of its measurement, of its start, of its steps. Not clamped.
    Raises what `worker.psld.sampler.sample` raises.
    """
    x = torch.from_numpy(pictures).to(prior.device)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    A = operator(resolved, torch.from_numpy(keep).to(prior.device))
    y = measure(A, x, resolved.operator.noise or 0.0, generators)
    regrown: NDArray[np.float32] = sample(prior, A, y, generators, guidance(resolved), on_step=on_step).cpu().numpy()
    return regrown


def operator(resolved: ResolvedSpec, keep: Tensor) -> Operator:
    """A, for rows whose keep masks are `keep` (B, H, W)."""
    inpaint = ReferenceInpaint if resolved.reference else Inpaint
    return inpaint(keep[:, None])


def guidance(resolved: ResolvedSpec) -> Guidance:
    """The numbers of the spec; `reference` brings the authors' conventions, and noise in each predicted measurement."""
    return Guidance(
        steps=resolved.steps,
        gamma=resolved.gamma,
        omega=resolved.omega,
        eta=resolved.eta,
        fresh_noise=(resolved.operator.noise or 0.0) if resolved.reference else 0.0,
        conventions=REFERENCE if resolved.reference else OURS,
    )
