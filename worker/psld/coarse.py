"""Canvases larger than a prior was trained on: the picture as a whole at the prior's own size, then its detail."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.psld.operators import Operator
from worker.psld.prior import Autoencoder, LatentPrior
from worker.psld.sampler import Guidance, sample
from worker.psld.smear import smear
from worker.psld.tiles import Tiled

COARSE_ENTER = 0.99
"""Share of the walk at the prior's own size, at most: from pure noise some images get stuck."""

FINE_ENTER = 0.3
"""Share of the walk on the whole canvas: what is decided before that is coarser than a tile's own detail."""

FINE_STEPS = 0.5
"""How densely the whole canvas is walked, in steps through a stretch of time, to the first walk."""


class Coarse:
    """What an operator A on a large canvas measures of a small one: A U x / s, U enlarging by a cubic, s its norm.

    ``large`` and ``small`` are (height, width). It is to be compared with ``scaled(y)``. Its adjoint is U^T A^T / s.
    As ||U / s|| is 1, its norm is no more than that of A, whose step it keeps.
    """

    def __init__(
        self, operator: Operator, large: tuple[int, int], small: tuple[int, int], device: torch.device
    ) -> None:
        self._operator = operator
        self._down, self._across = (_enlarging(*sides).to(device) for sides in zip(large, small, strict=True))
        self._scale = float(torch.linalg.matrix_norm(self._down, 2) * torch.linalg.matrix_norm(self._across, 2))
        self.step = operator.step

    @property
    def measured(self) -> Tensor | float:
        return self._operator.measured

    def forward(self, x: Tensor) -> Tensor:
        return self._operator.forward(self.enlarge(x)) / self._scale

    def adjoint(self, y: Tensor) -> Tensor:
        return self._down.T @ self._operator.adjoint(y) @ self._across / self._scale

    def enlarge(self, x: Tensor) -> Tensor:
        """Return U x."""
        return self._down @ x @ self._across.T

    def scaled(self, y: Tensor) -> Tensor:
        """Return the measurement ``y`` of a large canvas in this operator's units."""
        return y / self._scale


def sample_large(
    prior: LatentPrior,
    operator: Operator,
    y: Tensor,
    generators: Sequence[torch.Generator],
    guidance: Guidance,
    on_step: Callable[[int, int], None],
    guide: Autoencoder | None = None,
    *,
    coarse: tuple[Operator, Tensor] | None = None,
) -> Tensor:
    """As `sample`, for canvases larger than ``prior.native_size``, in two walks.

    The first is on a canvas of the prior's own size, told what the large one was measured, and begins with that,
    smeared. Its result, enlarged, is where the second begins: the end of a walk on the large canvas, the denoiser
    seeing tiles, the measurement pasted (`pasted_step`) whatever the first walk did. ``coarse`` are operator and
    measurement (of the large canvas) that the first walk goes by, where they are others. ``on_step`` counts through
    both, as if they were ``guidance.steps``. Raises what `sample` raises.
    """
    large = operator.adjoint(y).shape[-2:]
    small = tuple(_multiple(side * prior.native_size / max(large), prior.multiple) for side in large)
    operator_coarse, y_coarse = coarse or (operator, y)
    whole = Coarse(operator_coarse, (large[0], large[1]), (small[0], small[1]), prior.device)
    enter = min(guidance.enter, COARSE_ENTER)
    first = replace(guidance, steps=ceil(guidance.steps * enter / guidance.enter), enter=enter)
    # Pulled, dense boxes come out as dark patches: a gradient of unit length gathers in the few latents of a box.
    second = replace(
        guidance,
        steps=ceil(guidance.steps / guidance.enter * FINE_STEPS * FINE_ENTER),
        paste=1.0,
        enter=FINE_ENTER,
    )
    both = first.steps + second.steps

    def counted(offset: int) -> Callable[[int, int], None]:
        return lambda done, _steps: on_step(ceil((offset + done) * guidance.steps / both), guidance.steps)

    y_small = whole.scaled(y_coarse)
    x = sample(prior, whole, y_small, generators, first, start=smear(whole, y_small), on_step=counted(0), guide=guide)
    start = whole.enlarge(x).clamp(-1, 1)
    return sample(Tiled(prior), operator, y, generators, second, start=start, on_step=counted(first.steps), guide=guide)


def _multiple(side: float, multiple: int) -> int:
    return max(1, round(side / multiple)) * multiple


def _enlarging(large: int, small: int) -> Tensor:
    """(large, small): a cubic between the centres of pixels."""
    enlarged = F.interpolate(torch.eye(small)[None, None], (large, small), mode="bicubic", align_corners=False)
    return enlarged[0, 0]
