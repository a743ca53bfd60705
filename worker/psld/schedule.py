"""The walk over time steps, from noise to the clean latent."""

from typing import NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """From the noise level ``ab`` to ``ab_next``, the denoiser being told the time ``t``."""

    t: int
    ab: float
    ab_next: float


def walk(alpha_bar: Tensor, steps: int) -> list[Step]:
    """Return ``steps`` steps that cut the T training steps into equal parts, each entered at its noisy end.

    The first starts at T - 1, where the start noise belongs; the last goes from T / steps - 1 to the clean latent,
    level 1 ("trailing" spacing of Lin et al., arXiv 2305.08891). ValueError unless 1 <= steps <= T.
    """
    T = len(alpha_bar)
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be between 1 and the prior's {T}, not {steps}")
    times = [round(k * T / steps) - 1 for k in range(steps, 0, -1)]
    levels = [*alpha_bar[times].tolist(), 1.0]
    return [Step(t, ab, ab_next) for t, ab, ab_next in zip(times, levels, levels[1:], strict=False)]


def reference_walk(alpha_bar: Tensor, steps: int) -> list[Step]:
    """Return the walk of the authors' code: every (T // steps)-th time from 1 on, backwards, ending at alpha_bar[0].

    Where ``steps`` does not divide T these are more than ``steps``, as there. With ``steps`` = T the times are 1 ... T,
    each with the level of the time before it, as there are no more levels; the last step then stays where it is.
    ValueError for other ``steps`` whose times would reach T, and unless 1 <= steps <= T.
    """
    T = len(alpha_bar)
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be between 1 and the prior's {T}, not {steps}")
    times = list(range(1, T + 1, T // steps))
    if steps < T and times[-1] == T:
        raise ValueError(f"the reference walk of {steps} steps reaches the time {T}, which has no level")
    levels = alpha_bar[times if steps < T else slice(None)].tolist()
    nexts = [alpha_bar[0].item(), *levels[:-1]]
    return [Step(*step) for step in zip(times, levels, nexts, strict=True)][::-1]
