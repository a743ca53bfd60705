"""Posterior sampling with latent diffusion.

Rout et al., Solving Linear Inverse Problems Provably via Posterior Sampling with Latent Diffusion Models (2023), with
the weights ``gamma`` and ``omega`` as Prairie et al. use them. Where their code does otherwise than we do, the other
way is a value: ``Conventions``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import grad

from worker.psld.operators import Operator
from worker.psld.prior import Autoencoder, LatentPrior
from worker.psld.schedule import Step, reference_walk, walk

Draw = Callable[[Sequence[torch.Generator], tuple[int, ...]], Tensor]
Noise = Callable[[tuple[int, ...]], Tensor]

POLISH_RATE = 0.06
"""How far a step of ``polish`` moves latents, in the root mean square; they have unit variance."""

_POLISH_FIRST, _POLISH_SECOND = 0.7, 0.999
"""What the averages of ``polish``, of slopes and of their squares, keep at each step."""

_TINY = 1e-12


class NumericalFault(ArithmeticError):
    """Values stopped being finite after ``step`` (counted from 1, those of the finish too) in the batch's ``rows``."""

    def __init__(self, step: int, rows: Sequence[int]) -> None:
        super().__init__(f"values are not finite after step {step} in rows {list(rows)} of the batch")
        self.step = step
        self.rows = tuple(rows)


def norm(v: Tensor) -> Tensor:
    """Return the Euclidean norm of each row; its gradient at zero is zero, where that of sqrt(sum(v^2)) is NaN."""
    length: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return length


def batch_norm(v: Tensor) -> Tensor:
    """Return the Euclidean norm of all rows together: with it neighbours change each other's result."""
    length: Tensor = torch.linalg.vector_norm(v)
    return length


@dataclass(frozen=True, slots=True)
class Conventions:
    """Which time steps are taken, and what the length of a residual is."""

    walk: Callable[[Tensor, int], list[Step]]
    norm: Callable[[Tensor], Tensor]


OURS = Conventions(walk, norm)
REFERENCE = Conventions(reference_walk, batch_norm)


@dataclass(frozen=True, slots=True)
class Guidance:
    """How far and how hard to walk.

    ``gamma`` weighs the gluing norm ||g - z0||, ``omega`` the measurement norm ||r||: both are lengths of a step, as
    the norms are not squared, so the pull of a whole run grows with steps * (gamma + omega). ``eta`` in [0, 1] goes
    from DDIM (no noise on the way) to DDPM. ``fresh_noise`` is the standard deviation of the noise that the authors'
    code adds to A x0 at each step, in units of the image's [-1, 1]. Without ``denoiser_gradient`` the loss is
    differentiated with respect to z0 instead of z, which spares the denoiser's backward pass (He et al., Manifold
    Preserving Guided Diffusion, 2023). ``paste`` is the share of the diffusion's time, its end, in which there is no
    loss and no gradient: see ``pasted_step``.
    ``finish`` is the number of steps of ``polish`` after the walk. ``enter`` is the share of the diffusion's time that
    the ``steps`` walk through, its end: below 1 there should be a start that is nearer to the image than noise.
    ValueError for values outside their range.
    """

    steps: int
    gamma: float
    omega: float
    eta: float = 0.0
    fresh_noise: float = 0.0
    denoiser_gradient: bool = True
    paste: float = 0.0
    finish: int = 0
    enter: float = 1.0
    conventions: Conventions = OURS

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if not (self.gamma >= 0 and self.omega >= 0):
            raise ValueError(f"gamma and omega must not be negative, not {self.gamma} and {self.omega}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 and 1, not {self.eta}")
        if not self.fresh_noise >= 0:
            raise ValueError(f"fresh_noise must not be negative, not {self.fresh_noise}")
        if self.finish < 0:
            raise ValueError(f"finish must not be negative, not {self.finish}")
        if not 0 < self.enter <= 1:
            raise ValueError(f"enter must be above 0 and at most 1, not {self.enter}")
        if not 0 <= self.paste <= 1:
            raise ValueError(f"paste must be between 0 and 1, not {self.paste}")

    @property
    def pulls(self) -> bool:
        return self.gamma > 0 or self.omega > 0

    def pastes(self, step: Step, alpha_bar: Tensor) -> bool:
        """Whether it is ``pasted_step`` that takes this step."""
        return step.t < round(self.paste * len(alpha_bar))

    def path(self, alpha_bar: Tensor) -> list[Step]:
        """The steps that are taken. ValueError for more than there are times in the share that is walked."""
        return self.conventions.walk(alpha_bar[: round(self.enter * len(alpha_bar))], self.steps)


def draw(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Return unit noise (B, *shape), each row from its own generator, on the CPU so that no device changes it."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def measure(operator: Operator, x: Tensor, noise: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Return y = A x + ``noise`` n for images (B, 3, H, W), n unit noise of each row's generator where A measures."""
    y = operator.forward(x)
    if noise > 0:
        y = y + noise * operator.measured * draw(generators, y.shape[1:]).to(y.device)
    return y


@torch.no_grad()
def sample(  # noqa: PLR0913  (each may be left out but the first five)
    prior: LatentPrior,
    operator: Operator,
    y: Tensor,
    generators: Sequence[torch.Generator],
    guidance: Guidance,
    *,
    start: Tensor | None = None,
    draw: Draw = draw,
    on_step: Callable[[int, int], None] | None = None,
    guide: Autoencoder | None = None,
) -> Tensor:
    """Draw images x with A x close to the measurement ``y``, one for each row of y.

    ``y`` is float32 on the prior's device. Each row has a CPU generator of its own for its start and for the noise of
    each step, as far as ``guidance`` has any: first that of the measurement, then, where eta > 0, that of the latent.
    What a row becomes does not depend on its batch beyond rounding (but see ``batch_norm``). ``start`` are images
    (B, 3, H, W) in [-1, 1] that the walk begins with, noised to the level where it is entered (Meng et al., SDEdit,
    2022); without, it begins with noise. ``draw`` is the source of
    all this noise. ``on_step(done, steps)`` is called after each step and stops the walk by raising; after each step of
    the finish it is called as after the last of the walk. ``guide`` is an autoencoder of the same latents that stands
    for the prior's own along the walk, being smaller; start, finish and result are the prior's.

    Returns float32 (B, 3, H, W), about [-1, 1] and not clamped. Raises ValueError where y, generators and prior do not
    fit each other, and NumericalFault.
    """
    if len(generators) != len(y):
        raise ValueError(f"{len(y)} measurements need as many generators, not {len(generators)}")
    shape = prior.latent_shape(*operator.adjoint(y).shape[-2:])

    def noise(shape: tuple[int, ...]) -> Tensor:
        return draw(generators, shape).to(prior.device)

    path = guidance.path(prior.alpha_bar)
    z, steps = noise(shape), len(path)
    if start is not None:
        z = sqrt(path[0].ab) * prior.encode(start) + sqrt(1 - path[0].ab) * z
    for done, step in enumerate(path, start=1):
        take = pasted_step if guidance.pastes(step, prior.alpha_bar) else guided_step
        z = finite(take(prior, operator, y, z, step, guidance, noise, guide), done)
        if on_step is not None:
            on_step(done, steps)
    for done, polished in enumerate(polish(prior, operator, y, z, guidance.finish), start=steps + 1):
        z = finite(polished, done)
        if on_step is not None:
            on_step(steps, steps)
    return finite(prior.decode(z), steps + guidance.finish)


def guided_step(
    prior: LatentPrior,
    operator: Operator,
    y: Tensor,
    z: Tensor,
    step: Step,
    guidance: Guidance,
    noise: Noise,
    guide: Autoencoder | None = None,
) -> Tensor:
    """Return the latents (B, C, h, w) at ``step.ab_next``: one step of DDIM, less the gradient of the loss.

    ``noise(shape)`` gives unit noise (B, *shape). What is measured is what ``guide``, or the prior, decodes.
    """
    through_denoiser = guidance.pulls and guidance.denoiser_gradient
    z = z.detach().requires_grad_(through_denoiser)
    with torch.set_grad_enabled(through_denoiser):
        e, z0 = estimate(prior, z, step)
    pull: Tensor | float = 0.0
    if guidance.pulls:
        with torch.enable_grad():
            of = z if through_denoiser else z0.requires_grad_()
            (pull,) = grad(loss(guide or prior, operator, y, z0, guidance, noise), of)
    n = noise(z.shape[1:]) if guidance.eta > 0 else None
    return ddim(z0.detach(), e.detach(), step, guidance.eta, n) - pull


def pasted_step(
    prior: LatentPrior,
    operator: Operator,
    y: Tensor,
    z: Tensor,
    step: Step,
    guidance: Guidance,
    noise: Noise,
    guide: Autoencoder | None = None,
) -> Tensor:
    """Return the latents at ``step.ab_next``: one step of DDIM, the measurement glued into the estimate itself.

    Where ``guided_step`` pulls z0 towards g, here g takes its place, so that nothing is differentiated: the networks
    run forward only (Zhu et al., Denoising Diffusion Models for Plug-and-Play Image Restoration, 2023; in a latent
    space Spagnoletti et al., LATINO, 2025).
    """
    _, z0 = estimate(prior, z, step)
    coder = guide or prior
    x0 = coder.decode(z0)
    g = glued(coder, operator, x0, operator.forward(x0) - y)
    n = noise(z.shape[1:]) if guidance.eta > 0 else None
    return ddim(g, (z - sqrt(step.ab) * g) / sqrt(1 - step.ab), step, guidance.eta, n)


def estimate(prior: LatentPrior, z: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """Return the noise e that the denoiser finds in z, and z0, what it takes to be under it."""
    e = prior.eps(z, torch.full((len(z),), step.t, device=z.device))
    return e, (z - sqrt(1 - step.ab) * e) / sqrt(step.ab)


def glued(coder: Autoencoder, operator: Operator, x0: Tensor, r: Tensor) -> Tensor:
    """Return g, the latent of x0 with the measurement glued in; r = A x0 - y."""
    return coder.encode(x0 - operator.step * operator.adjoint(r))


def loss(
    coder: Autoencoder,
    operator: Operator,
    y: Tensor,
    z0: Tensor,
    guidance: Guidance,
    noise: Noise,
) -> Tensor:
    """Return gamma ||g - z0|| + omega ||r||, summed over the rows: a row's gradient is that of its own loss.

    r is what the decoded estimate x0 measures beyond y; g is the latent of x0 with the measurement glued in.
    """
    norm = guidance.conventions.norm
    x0 = coder.decode(z0)
    r = operator.forward(x0) - y
    fresh = guidance.fresh_noise > 0
    noisy = r + guidance.fresh_noise * operator.measured * noise(r.shape[1:]) if fresh else r
    L = guidance.omega * norm(noisy)
    if guidance.gamma > 0:
        L = L + guidance.gamma * norm(glued(coder, operator, x0, r) - z0)
    return L.sum()


def polish(prior: LatentPrior, operator: Operator, y: Tensor, z: Tensor, steps: int) -> Iterator[Tensor]:
    """Yield latents ``steps`` times, each a step nearer to A D(z) = y: the decoder alone, no denoiser.

    What is minimised is the mean square of each row's residual, by Adam (Kingma and Ba, 2015) with one second moment a
    row instead of one an entry, which would move latents that next to nothing is known of as far as all others. For
    the same reason a pixel counts by the square root of the share that is measured around it, within the width of a
    latent pixel: one that is known alone becomes a bright or dark bead else, as the decoder knows no such detail.
    """
    reach = y.shape[-1] // z.shape[-1]
    weight = _thickness(operator.measured, reach)
    z, first, second = z.detach(), torch.zeros_like(z), torch.zeros(len(z), 1, 1, 1, device=z.device)
    for step in range(1, steps + 1):
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            r = operator.forward(prior.decode(z)) - y
            (slope,) = grad((weight * r.square()).flatten(1).mean(dim=1).sum(), z)
        first = _POLISH_FIRST * first + (1 - _POLISH_FIRST) * slope
        length = slope.square().flatten(1).mean(dim=1).view(-1, 1, 1, 1)
        second = _POLISH_SECOND * second + (1 - _POLISH_SECOND) * length
        speed = (second / (1 - _POLISH_SECOND**step)).sqrt().clamp(min=_TINY)
        z = z.detach() - POLISH_RATE * first / (1 - _POLISH_FIRST**step) / speed
        yield z


def _thickness(measured: Tensor | float, reach: int) -> Tensor | float:
    """How much a pixel of a mask ``measured`` counts in ``polish``; without a mask, all alike."""
    if not isinstance(measured, Tensor):
        return 1.0
    return F.avg_pool2d(measured.float(), 2 * reach + 1, stride=1, padding=reach, count_include_pad=False).sqrt()


def ddim(z0: Tensor, e: Tensor, step: Step, eta: float, n: Tensor | None) -> Tensor:
    """Return the latent at ``step.ab_next`` (Song et al., DDIM, equation 12); ``n`` is unit noise where eta > 0."""
    s = eta * sqrt((1 - step.ab_next) / (1 - step.ab) * (1 - step.ab / step.ab_next))
    z_next = sqrt(step.ab_next) * z0 + sqrt(1 - step.ab_next - s**2) * e
    return z_next if n is None else z_next + s * n


def finite(values: Tensor, step: int) -> Tensor:
    """Return ``values``, or raise NumericalFault naming the rows that hold NaN or infinity."""
    ok = values.isfinite().flatten(1).all(dim=1)
    if not ok.all():
        raise NumericalFault(step, (~ok).nonzero().flatten().tolist())
    return values
