"""The authors' way of running a denoiser, for the comparison of costs."""

from typing import Any

import torch
from torch import Tensor

from worker.priors.diffusers import DiffusersPrior


class Theirs:
    """A prior that costs what it costs in the authors' code: two branches of guidance with the same prompt, weights
    that are not frozen, and activations that are computed again for the gradient."""

    def __init__(self, prior: DiffusersPrior) -> None:
        self._prior = prior
        self._weights = list(prior._unet.requires_grad_(True).parameters())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        both: Tensor = Recomputed.apply(self._prior.eps, t.repeat(2), z.repeat(2, 1, 1, 1), *self._weights)  # type: ignore[no-untyped-call]
        unconditional, conditional = both.chunk(2)
        return unconditional + 7.5 * (conditional - unconditional)


class Recomputed(torch.autograd.Function):
    """A function whose gradient computes it again, and with it the gradients of its weights, as the LDM code base does.

    It does so a block at a time and this the whole net at once, which costs the same time and more memory.
    """

    @staticmethod
    def forward(ctx: Any, net: Any, t: Tensor, z: Tensor, *weights: Tensor) -> Tensor:
        ctx.net, ctx.weights = net, weights
        ctx.save_for_backward(t, z)
        with torch.no_grad():
            found: Tensor = net(z, t)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        t, z = ctx.saved_tensors
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            found = ctx.net(z, t)
        return (None, None, *torch.autograd.grad(found, (z, *ctx.weights), gradients, allow_unused=True))
