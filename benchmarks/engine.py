"""What does an image cost? `python -m benchmarks.engine` prints it for each preset, in seconds, network evaluations,
FLOPs and memory.

The first row is the authors' way of running on the same prior: two branches of guidance with the same prompt, the
denoiser's weights not frozen, and its activations computed again for the gradient, with gradients of its weights that
nobody uses. The presets' rows are what a worker does. In each round every way has its turn, in a process of its own;
seconds are the median of the rounds, memory the most of them, beyond what the loaded prior takes.

A way with more steps than --most is timed with that many, and what the steps cost is scaled up. FLOPs are counted by
torch on two short runs (multiplications and additions; matrix products and convolutions only).
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.fidelity import Counted
from shared.spec import PRESETS, ExpansionSpec, ResolvedSpec, resolve
from worker import recipe
from worker.priors.diffusers import BUILTIN, DiffusersPrior, load
from worker.psld.prior import LatentPrior

THEIRS = "as the authors run it"


@dataclass(frozen=True)
class Cost:
    """Of one image."""

    seconds: float
    evaluations: float
    teraflops: float
    mebibytes: float


class Flops(TorchDispatchMode):
    """Counts what is done within, on the way back too. (torch's own FlopCounterMode cannot look into `Recomputed`.)"""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=found)
        return found


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


class Theirs:
    """A prior that costs what it costs in the authors' code."""

    def __init__(self, prior: DiffusersPrior) -> None:
        self._prior = prior
        self._weights = list(prior._unet.requires_grad_(True).parameters())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        both: Tensor = Recomputed.apply(self._prior.eps, t.repeat(2), z.repeat(2, 1, 1, 1), *self._weights)  # type: ignore[no-untyped-call]
        unconditional, conditional = both.chunk(2)
        return unconditional + 7.5 * (conditional - unconditional)


def main() -> None:
    given = _parser().parse_args()
    torch.set_num_threads(given.threads)
    if given.way:
        print(json.dumps(asdict(_measured(given, given.way))))
        return
    ways = [THEIRS, *given.presets]
    found: dict[str, list[Cost]] = {way: [] for way in ways}
    for round_ in range(1, given.rounds + 1):
        for way in ways:
            found[way].append(_in_a_process(way))
            print(f"round {round_}, {way}: {found[way][-1].seconds:.1f} s", file=sys.stderr, flush=True)
    print("way                      steps  evaluations    TFLOP  fewer  s/image  faster     MiB")
    theirs = Cost(*(median(column) for column in zip(*map(_values, found[THEIRS]), strict=True)))
    for way, costs in found.items():
        seconds, flops = median(cost.seconds for cost in costs), costs[0].teraflops
        steps = PRESETS["reference" if way == THEIRS else way].steps
        print(
            f"{way:24} {steps:5}  {costs[0].evaluations:11.0f}  {flops:7.2f}  {theirs.teraflops / flops:4.1f}x  "
            f"{seconds:7.1f}  {theirs.seconds / seconds:5.1f}x  {max(cost.mebibytes for cost in costs):6.0f}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS), metavar="NAME")
    parser.add_argument("--prior", type=Path, default=BUILTIN, metavar="FOLDER", help="(default: the built-in one)")
    parser.add_argument("--long-side", type=int, help="of the canvas (default: the prior's own)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--most", type=int, default=20, help="steps that are timed (default: %(default)s)")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    return parser


def _values(cost: Cost) -> list[float]:
    return list(asdict(cost).values())


def _in_a_process(way: str) -> Cost:
    """With a memory of its own."""
    command = [sys.executable, "-m", "benchmarks.engine", *sys.argv[1:], "--way", way]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Cost(**json.loads(done.stdout))


def _measured(given: argparse.Namespace, way: str) -> Cost:
    loaded = load(given.prior, given.device)
    prior: LatentPrior = Theirs(loaded) if way == THEIRS else loaded
    asked = {"dataset_id": "none", "canvas": {"long_side": given.long_side}}
    spec = ExpansionSpec.model_validate(asked | {"sampler": {"preset": "reference" if way == THEIRS else way}})
    resolved = resolve(spec, prior_sha256="", native_size=prior.native_size, multiple=prior.multiple)
    few = resolved.model_copy(update={"steps": min(resolved.steps, given.most)})
    at_rest = _memory(given.device, reset=True)
    _run(prior, resolved.model_copy(update={"steps": 1, "finish": min(resolved.finish, 1)}))  # warms up
    started = time.perf_counter()
    evaluations = _run(prior, few)
    seconds = time.perf_counter() - started
    used = _memory(given.device) - at_rest
    scale = resolved.steps / few.steps
    return Cost(seconds * scale, evaluations * scale, _teraflops(prior, resolved), used / 2**20)


def _teraflops(prior: LatentPrior, resolved: ResolvedSpec) -> float:
    """Of the whole run, from runs of a few and of twice as many steps."""
    few = max(1, min(resolved.steps // 2, 10))
    counted = []
    for steps in (few, 2 * few):
        with Flops() as flops:
            _run(prior, resolved.model_copy(update={"steps": steps}))
        counted.append(flops.total)
    a_step = (counted[1] - counted[0]) / few
    return float(counted[0] + a_step * (resolved.steps - few)) / 1e12


def _run(prior: LatentPrior, resolved: ResolvedSpec) -> int:
    """Regrow a picture of noise of which a sixth is kept; returns how often the networks were evaluated."""
    counted, rng = Counted(prior), np.random.default_rng(0)
    shape = (1, resolved.long_side, resolved.long_side)
    picture = rng.uniform(-1, 1, (1, 3, *shape[1:])).astype(np.float32)
    recipe.regrow(counted, resolved, picture, rng.random(shape) < 1 / 6, [1], lambda _done, _steps: None)
    return counted.evaluations


def _memory(device: str, *, reset: bool = False) -> int:
    """The most bytes that were held since the last reset."""
    if torch.device(device).type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.max_memory_allocated())
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
