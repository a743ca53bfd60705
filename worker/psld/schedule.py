"""The walk over time steps, from noise to the clean latent."""

from typing import NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """From the noise level ``ab`` = alpha_bar[t] to ``ab_next``; the last step ends at 1, without noise."""

    t: int
    ab: float
    ab_next: float


def walk(alpha_bar: Tensor, steps: int) -> list[Step]:
    """Return ``steps`` steps that cut the T training steps into equal parts, each entered at its noisy end.

    The first starts at T - 1, where the start noise belongs; the last goes from T / steps - 1 to the clean latent
    ("trailing" spacing of Lin et al., arXiv 2305.08891). ValueError unless 1 <= steps <= T.
    """
    T = len(alpha_bar)
    if not 1 <= steps <= T:
        raise ValueError(f"steps must be between 1 and the prior's {T}, not {steps}")
    times = [round(k * T / steps) - 1 for k in range(steps, 0, -1)]
    levels = [*alpha_bar[times].tolist(), 1.0]
    return [Step(t, ab, ab_next) for t, ab, ab_next in zip(times, levels, levels[1:], strict=False)]
