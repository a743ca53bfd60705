"""What an image costs, as the benchmark counts it."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_prior import write_tiny_prior
from torch import Tensor, nn

from benchmarks import architecture, engine
from benchmarks.engine import Networks, Way, whole
from benchmarks.parts import PARTS, Flops, Parts
from benchmarks.theirs import Theirs
from shared.spec import ExpansionSpec, ResolvedSpec, resolve
from worker.priors.diffusers import load

SIDE = 32


class Hand:
    """A prior of one convolution each, whose multiplications and additions can be counted on paper."""

    DENOISER = 2 * 4 * 4 * 9 * SIDE**2
    CODER = 2 * 4 * 3 * SIDE**2

    def __init__(self, device: str) -> None:
        with torch.device(device):
            self._unet = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
            self._decoder = nn.Conv2d(4, 3, 1).requires_grad_(False)
            self._encoder = nn.Conv2d(3, 4, 1).requires_grad_(False)
        self.device = torch.device(device)
        self.alpha_bar = torch.linspace(0.99, 0.01, 1000)
        self.multiple = 1
        self.native_size = SIDE

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        e: Tensor = self._unet(z)
        return e

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self._decoder(z)
        return x

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self._encoder(x)
        return z

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 4, height, width


def few(preset: str, side: int = SIDE) -> ResolvedSpec:
    spec = ExpansionSpec.model_validate({"dataset_id": "none", "sampler": {"preset": preset}})
    resolved = resolve(spec, prior_sha256="", native_size=side, multiple=1, images_side=side)
    return resolved.model_copy(update={"steps": 4, "finish": 3 if resolved.finish else 0})


def counted(networks: Networks, resolved: ResolvedSpec) -> dict[str, int]:
    parts = Parts(torch.device("cpu"))
    with Flops(parts) as flops:
        engine._run(networks.parted(parts), resolved, 1)
    return flops.of


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_is_counted_is_what_comes_out_on_paper_part_by_part(device: str) -> None:
    denoiser, coder = Hand.DENOISER, Hand.CODER
    nothing = dict.fromkeys(PARTS, 0)
    there_and_back = {"denoiser": 4 * 2 * denoiser, "decoder": (4 * 2 + 1) * coder, "encoder": 4 * 2 * coder}
    assert counted(Networks(Hand(device), None), few("exact")) == nothing | there_and_back
    # Two steps that pull, there and back, and two forward only; one more encoding to begin with, and in the finish
    # three decodings with their gradient.
    walked = 2 * 2 + 2
    pasted = {"denoiser": walked * denoiser, "decoder": (walked + 3 * 2 + 1) * coder, "encoder": (walked + 1) * coder}
    assert counted(Networks(Hand(device), None), few("fast")) == nothing | pasted
    guided = {"decoder": (3 * 2 + 1) * coder, "encoder": coder, "guide": walked * 2 * coder}
    assert counted(Networks(Hand(device), Hand(device)), few("fast")) == nothing | guided | {
        "denoiser": walked * denoiser
    }
    # Two branches: forward, forward again, the gradient of what went in and that of the weights.
    theirs = {"denoiser": 4 * 2 * 4 * denoiser, "decoder": (4 * 2 + 1) * coder, "encoder": 4 * 2 * coder}
    assert counted(Networks(Theirs(Hand(device)), None), few("reference")) == nothing | theirs  # type: ignore[arg-type]


def test_shapes_alone_cost_what_values_do_attention_included(tmp_path: Path) -> None:
    write_tiny_prior(tmp_path)
    # Forward only: of attention's gradient more is counted on a CPU.
    pasted = few("fast", 16).model_copy(update={"paste": 1.0})
    values, shapes = (counted(Networks(load(tmp_path, device), None), pasted) for device in ("cpu", "meta"))
    assert values == shapes
    assert values["denoiser"] > 0


def test_seconds_are_counted_of_each_part() -> None:
    passed = iter(range(10_000))
    parts = Parts(torch.device("cpu"), lambda: float(next(passed)))
    engine._run(Networks(Hand("cpu"), None).parted(parts), few("exact"), 1)
    # A look at the clock at the beginning and at the end of a part; on the way back too.
    assert parts.seconds["denoiser"] == 4 * 2
    assert parts.seconds["encoder"] == 4 * 2
    assert parts.seconds["decoder"] == 4 * 2 + 1


def test_more_steps_than_are_run_are_extrapolated_and_what_comes_but_once_is_not() -> None:
    asked: list[tuple[int, int]] = []

    def measure(steps: int, finish: int) -> np.ndarray:
        asked.append((steps, finish))
        return np.array([7.0 + 2 * steps + 3 * finish])

    assert whole(measure, 1000, 20, 6) == pytest.approx([7 + 2000 + 60])
    assert max(max(each) for each in asked) <= 6
    assert whole(measure, 40, 0, 100) == pytest.approx([7 + 80])


def test_stable_diffusion_is_built_as_large_as_it_is_without_any_memory() -> None:
    prior = architecture.prior("sd1", "meta")
    sizes = [sum(values.numel() for values in part.parameters()) for part in (prior._unet, prior._vae)]
    assert sizes == [859_520_964, 83_653_863]
    assert prior.native_size == 512


@pytest.mark.parametrize(("preset", "guided", "fewer"), [("exact", False, 1.5), ("fast", True, 100)])
def test_a_stable_diffusion_costs_as_little_as_it_is_said_to(preset: str, guided: bool, fewer: float) -> None:
    theirs = 7452.6  # of an image as the authors run it, as the benchmark prints it
    given = Namespace(architecture="sd1", guidance_vae="taesd", long_side=384)
    assert engine._counted(given, Way(preset + engine.GUIDED * guided))[1:].sum() < theirs / fewer
