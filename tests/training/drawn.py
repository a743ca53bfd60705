"""Pictures drawn from a seed, and trainings of them that take seconds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from shared.recipes import TrainingSettings
from worker.training import TrainingProgress, train

SIDE = 32


def pixels(seed: int, side: int = SIDE) -> NDArray[np.uint8]:
    """A soft bright bar somewhere on a dark ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    angle, offset, width = rng.uniform(0, np.pi), rng.uniform(-0.2, 0.2), rng.uniform(0.08, 0.2)
    across = x * np.cos(angle) + y * np.sin(angle) - offset
    bright = 30 + 200 * np.exp(-((across / width) ** 2))
    return bright.astype(np.uint8)


def picture(seed: int, side: int = SIDE) -> Image.Image:
    return Image.fromarray(pixels(seed, side))


def pictures(count: int, side: int = SIDE, first: int = 0) -> list[Callable[[], Image.Image]]:
    return [partial(picture, first + seed, side) for seed in range(count)]


def settings(**changes: Any) -> TrainingSettings:
    """A few steps at sizes that fit the tiny prior."""
    small = {
        "image_side": SIDE,
        "denoiser_side": 16,
        "crop": 16,
        "autoencoder_steps": 6,
        "autoencoder_batch": 2,
        "denoiser_steps": 6,
        "denoiser_batch": 4,
        "checkpoint_every": 2,
        "sample_every": 3,
        "samples": 4,
    }
    return TrainingSettings(**small | changes)


def silent(progress: TrainingProgress) -> None:
    pass


def run(
    folder: Path,
    numbers: TrainingSettings,
    *,
    init: Path | None,
    on_step: Callable[[TrainingProgress], None] = silent,
    loaders: list[Callable[[], Image.Image]] | None = None,
) -> None:
    train(loaders or pictures(24), numbers, folder, init=init, device=torch.device("cpu"), on_step=on_step)
