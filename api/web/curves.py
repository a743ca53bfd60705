"""A curve as an SVG has it."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.schemas.trainings import HeldOut

WIDTH, HEIGHT = 320, 120
_TITLES = {"autoencoder": "Autoencoder: PSNR of held-out images, dB", "denoiser": "Denoiser: loss on held-out images"}


@dataclass(frozen=True, slots=True)
class Curve:
    """The figures of one stage; `points` are for a viewBox of WIDTH x HEIGHT."""

    title: str
    points: str
    first: float
    last: float
    step: int
    """The last one's."""


def of(history: Sequence[HeldOut]) -> list[Curve]:
    """A curve for each stage that has two figures or more."""
    stages = dict.fromkeys(point.stage for point in history)
    by_stage = {stage: [point for point in history if point.stage == stage] for stage in stages}
    return [_curve(stage, some) for stage, some in by_stage.items() if len(some) > 1]


def _curve(stage: str, some: Sequence[HeldOut]) -> Curve:
    low, high = min(point.held_out for point in some), max(point.held_out for point in some)
    first, last = some[0], some[-1]
    places = [
        (
            (point.step - first.step) / max(1, last.step - first.step) * WIDTH,
            HEIGHT - (point.held_out - low) / ((high - low) or 1) * HEIGHT,
        )
        for point in some
    ]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Curve(_TITLES.get(stage, stage), points, first.held_out, last.held_out, last.step)
