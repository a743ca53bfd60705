"""A gpu worker that sleeps where others sample: `celery -A benchmarks.sleeper worker -Q gpu`.

Everything around the sampler is what runs in earnest. REGROW_BENCH_SECONDS says how long one image takes.
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from celery.signals import worker_process_init
from torch import Tensor

from shared.settings import Settings
from worker import main, tasks
from worker.priors.cache import PriorCache

STEPS = 20


class SleepingPrior:
    """A `LatentPrior` whose denoiser sleeps and foresees no noise; its autoencoder changes the size only."""

    multiple = 16
    native_size = 128
    device = torch.device("cpu")
    alpha_bar = torch.linspace(0.999, 0.01, 1000)

    def __init__(self, seconds: float) -> None:
        self._pause = seconds / STEPS

    def eps(self, z: Tensor, _t: Tensor) -> Tensor:
        time.sleep(self._pause)
        return z * 0

    def encode(self, x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, 8)

    def decode(self, z: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(z, scale_factor=8)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 3, height // 8, width // 8


def _load(_folder: Path, _device: str) -> SleepingPrior:
    return SleepingPrior(float(os.environ["REGROW_BENCH_SECONDS"]))


@worker_process_init.connect
def _child_starts(**_: Any) -> None:
    studio = replace(main.studio(), priors=PriorCache(_load))
    vars(tasks)["studio"] = lambda: studio


def __getattr__(name: str) -> Any:
    if name == "app":
        app = main.create_worker(Settings())
        # A spawned child imports what is named here, and nothing else of ours.
        app.conf.include = [*app.conf.include, "benchmarks.sleeper"]
        return app
    raise AttributeError(name)
