"""Posterior sampling with latent diffusion.

Rout et al., Solving Linear Inverse Problems Provably via Posterior Sampling with Latent Diffusion Models (2023), with
the weights ``gamma`` and ``omega`` as Prairie et al. use them. Two things differ from their code: each image has a norm
of its own, so that a result does not depend on its neighbours, and the walk ends on the clean estimate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor
from torch.autograd import grad

from worker.psld.operators import Operator
from worker.psld.prior import LatentPrior
from worker.psld.schedule import Step, walk


class NumericalFault(ArithmeticError):
    """Values stopped being finite after ``step`` (counted from 1) in the batch's ``rows``."""

    def __init__(self, step: int, rows: Sequence[int]) -> None:
        super().__init__(f"values are not finite after step {step} in rows {list(rows)} of the batch")
        self.step = step
        self.rows = tuple(rows)


@dataclass(frozen=True, slots=True)
class Guidance:
    """How far and how hard to walk.

    ``gamma`` weighs the gluing norm ||g - z0||, ``omega`` the measurement norm ||r||: both are lengths of a step, as
    the norms are not squared, so the pull of a whole run grows with steps * (gamma + omega). ``eta`` in [0, 1] goes
    from DDIM (no noise on the way) to DDPM. ValueError for values outside their range.
    """

    steps: int
    gamma: float
    omega: float
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if not (self.gamma >= 0 and self.omega >= 0):
            raise ValueError(f"gamma and omega must not be negative, not {self.gamma} and {self.omega}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 and 1, not {self.eta}")

    @property
    def pulls(self) -> bool:
        return self.gamma > 0 or self.omega > 0


@torch.no_grad()
def sample(
    prior: LatentPrior,
    operator: Operator,
    y: Tensor,
    generators: Sequence[torch.Generator],
    guidance: Guidance,
    *,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw images x with A x close to the measurement ``y``, one for each row of y.

    ``y`` is float32 on the prior's device. Each row has a CPU generator of its own for its start and, where
    ``guidance.eta`` is above 0, for the noise of each step: what a row becomes does not depend on its batch beyond
    rounding. ``on_step(done, steps)`` is called after each step and stops the walk by raising.

    Returns float32 (B, 3, H, W), about [-1, 1] and not clamped. Raises ValueError where y, generators and prior do not
    fit each other, and NumericalFault.
    """
    if len(generators) != len(y):
        raise ValueError(f"{len(y)} measurements need as many generators, not {len(generators)}")
    shape = prior.latent_shape(*operator.adjoint(y).shape[-2:])
    z = draw(generators, shape).to(prior.device)
    for done, step in enumerate(walk(prior.alpha_bar, guidance.steps), start=1):
        z.requires_grad_(guidance.pulls)
        with torch.set_grad_enabled(guidance.pulls):
            e = prior.eps(z, torch.full((len(z),), step.t, device=prior.device))
            z0 = (z - sqrt(1 - step.ab) * e) / sqrt(step.ab)
            # Rows do not meet before this sum: each gets the gradient of its own loss.
            pull = grad(loss(prior, operator, y, z0, guidance).sum(), z)[0] if guidance.pulls else 0.0
        n = draw(generators, shape).to(prior.device) if guidance.eta > 0 else None
        z_next = ddim(z0.detach(), e.detach(), step, guidance.eta, n) - pull
        z = finite(z_next, done)
        if on_step is not None:
            on_step(done, guidance.steps)
    return finite(prior.decode(z), guidance.steps)


def loss(prior: LatentPrior, operator: Operator, y: Tensor, z0: Tensor, guidance: Guidance) -> Tensor:
    """Return gamma ||g - z0|| + omega ||r|| for each row, (B,).

    r is what the decoded estimate x0 measures beyond y; g is the latent of x0 with the measurement glued in.
    """
    x0 = prior.decode(z0)
    r = operator.forward(x0) - y
    L = guidance.omega * norm(r)
    if guidance.gamma > 0:
        g = prior.encode(x0 - operator.step * operator.adjoint(r))
        L = L + guidance.gamma * norm(g - z0)
    return L


def ddim(z0: Tensor, e: Tensor, step: Step, eta: float, n: Tensor | None) -> Tensor:
    """Return the latent at ``step.ab_next`` (Song et al., DDIM, equation 12); ``n`` is unit noise where eta > 0."""
    s = eta * sqrt((1 - step.ab_next) / (1 - step.ab) * (1 - step.ab / step.ab_next))
    z_next = sqrt(step.ab_next) * z0 + sqrt(1 - step.ab_next - s**2) * e
    return z_next if n is None else z_next + s * n


def norm(v: Tensor) -> Tensor:
    """Return the Euclidean norm of each row; its gradient at zero is zero, where that of sqrt(sum(v^2)) is NaN."""
    length: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return length


def draw(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Return unit noise (B, *shape), each row from its own generator, on the CPU so that no device changes it."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def finite(values: Tensor, step: int) -> Tensor:
    """Return ``values``, or raise NumericalFault naming the rows that hold NaN or infinity."""
    ok = values.isfinite().flatten(1).all(dim=1)
    if not ok.all():
        raise NumericalFault(step, (~ok).nonzero().flatten().tolist())
    return values
