"""What does an image cost? `python -m benchmarks.engine` prints it for each preset, in seconds, network evaluations,
FLOPs and memory.

The first row is the authors' way of running on the same prior: two branches of guidance with the same prompt, the
denoiser's weights not frozen, and its activations computed again for the gradient, with gradients of its weights that
nobody uses. The presets' rows are what a worker does. In each round every way has its turn, in a process of its own;
seconds are the median of the rounds, memory the most of them, beyond what the loaded prior takes. On one thread of a
CPU, seconds are the processor's, which other work prolongs least.

A way with more steps than --most is timed with that many and with half as many, and what a step costs is extrapolated;
so is the finish; but where steps are of two kinds, as of `balanced` and `fast`, all are timed. FLOPs are counted
likewise, kind by kind, on shapes alone (multiplications and additions; matrix products and convolutions only), so that
`--rounds 0` prints them in a minute, whatever the size of the prior.

`--architecture sd1` takes the true architecture with random weights, and `--guidance-vae taesd` adds a row for each
preset guided by an autoencoder of that size. `--parts` prints what denoiser, decoder, encoder and guide cost each.
`--precision bfloat16` is how a worker computes on a GPU; the authors' way stays in float32, as it is.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import architecture
from benchmarks.parts import PARTS, Counted, Flops, Parted, Parts
from benchmarks.tables import table
from benchmarks.theirs import Theirs
from shared.spec import PRESETS, ExpansionSpec, ResolvedSpec, resolve
from worker import recipe
from worker.priors.arithmetic import PLAIN, PRECISIONS, Arithmetic
from worker.priors.autoencoders import Autoencoder
from worker.priors.check import load_autoencoder
from worker.priors.diffusers import BUILTIN, DiffusersPrior, load
from worker.priors.single import ARCHITECTURES

THEIRS = "as the authors run it"
GUIDED = ", guided by a small one"
TAESD = "taesd"

_COUNTED = 2
"""Steps that FLOPs are counted of: they are the same for each of a kind."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Way:
    """To run: a preset, perhaps as the authors do, perhaps guided by a smaller autoencoder."""

    name: str

    @property
    def preset(self) -> str:
        return "reference" if self.name == THEIRS else self.name.removesuffix(GUIDED)

    @property
    def guided(self) -> bool:
        return self.name.endswith(GUIDED)


@dataclass(frozen=True)
class Networks:
    """What a way runs on."""

    prior: Any
    guide: Any | None

    def parted(self, parts: Parts) -> "Networks":
        guide = None if self.guide is None else Parted(self.guide, parts, guide=True)
        return Networks(Parted(self.prior, parts), guide)


def main() -> None:
    parser = _parser()
    given = parser.parse_args()
    if given.most < 2:
        parser.error("--most must be at least 2")
    torch.set_num_threads(given.threads)
    if given.way:
        print(json.dumps(_timed(given, Way(given.way))))
        return
    guided = [name + GUIDED for name in given.presets if given.guidance_vae and not PRESETS[name].reference]
    ways = [Way(name) for name in (THEIRS, *given.presets, *guided)]
    counted = {way: _counted(given, way) for way in ways}
    found: dict[Way, list[dict[str, Any]]] = {way: [] for way in ways}
    for round_ in range(1, given.rounds + 1):
        for way in ways:
            found[way].append(_in_a_process(way))
            print(f"round {round_}, {way.name}: {found[way][-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    timed = {way: _median(rounds) for way, rounds in found.items() if rounds}
    _print(ways, counted, timed, given.parts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS), metavar="NAME")
    parser.add_argument("--prior", type=Path, default=BUILTIN, metavar="FOLDER", help="(default: the built-in one)")
    parser.add_argument("--architecture", choices=ARCHITECTURES, help="with random weights, instead of a prior")
    parser.add_argument("--guidance-vae", metavar=f"FOLDER|{TAESD}", help=f"{TAESD}: its size, with random weights")
    parser.add_argument("--long-side", type=int, help="of the canvas (default: the prior's own)")
    parser.add_argument("--batch", type=int, default=1, help="images at once (default: %(default)s)")
    parser.add_argument("--parts", action="store_true", help="also print what each part costs")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="0: FLOPs only (default: %(default)s)")
    parser.add_argument("--most", type=int, default=20, help="steps that are timed, 2 at least (default: %(default)s)")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    return parser


def _print(
    ways: Iterable[Way], counted: Mapping[Way, Numbers], timed: Mapping[Way, dict[str, Any]], parts: bool
) -> None:
    theirs = Way(THEIRS)
    rows: list[list[object]] = []
    for way in ways:
        evaluations, flops = counted[way][0], counted[way][1:].sum()
        row = [way.name, PRESETS[way.preset].steps, f"{evaluations:.0f}", f"{flops:.2f}"]
        row.append(f"{counted[theirs][1:].sum() / flops:.1f}x")
        if way in timed:
            cost = timed[way]
            row += [f"{cost['seconds']:.1f}", f"{timed[theirs]['seconds'] / cost['seconds']:.1f}x"]
            row += [f"{flops / cost['seconds']:.2f}", f"{cost['bytes'] / 2**20:.0f}"]
        rows.append(row)
    header = ["way", "steps", "evaluations", "TFLOP", "fewer", "s/image", "faster", "TFLOP/s", "MiB"]
    table(header if timed else header[:5], rows)
    if parts:
        print("\nTFLOP of an image")
        table(["way", *PARTS], [[way.name, *(f"{value:.2f}" for value in counted[way][1:])] for way in ways])
    if parts and timed:
        print("\nSeconds of an image")
        table(["way", *PARTS], [[way.name, *(f"{timed[way][part]:.1f}" for part in PARTS)] for way in ways])


def _median(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each number over the rounds; of memory the most."""
    found = {name: median(each[name] for each in rounds) for name in rounds[0]}
    return found | {"bytes": max(each["bytes"] for each in rounds)}


def _in_a_process(way: Way) -> dict[str, Any]:
    """With a memory of its own."""
    command = [sys.executable, "-m", "benchmarks.engine", *sys.argv[1:], "--way", way.name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _counted(given: argparse.Namespace, way: Way) -> Numbers:
    """Network evaluations, and TFLOP of each of PARTS, for an image: of shapes on the device `meta`, without values."""
    networks = _networks(given, way, "meta")
    resolved = _resolved(given, way, networks)

    def measure(paste: float, steps: int, finish: int) -> Numbers:
        parts = Parts(torch.device("meta"))
        with Flops(parts) as flops:
            few = resolved.model_copy(update={"steps": steps, "finish": finish, "paste": paste})
            evaluations = _run(networks.parted(parts), few, 1)
        return np.array([evaluations, *(value / 1e12 for value in flops.of.values())])

    pasted = _pasted(resolved, networks)
    shares = {0.0: 1 - pasted, 1.0: pasted}
    kinds = [
        share * whole(partial(measure, paste), resolved.steps, resolved.finish, _COUNTED)
        for paste, share in shares.items()
        if share
    ]
    found: Numbers = np.sum(kinds, axis=0)
    return found


def _pasted(resolved: ResolvedSpec, networks: Networks) -> float:
    """The share of its steps that paste."""
    how, levels = recipe.guidance(resolved), networks.prior.alpha_bar
    path = how.path(levels)
    return sum(how.pastes(step, levels) for step in path) / len(path)


def _timed(given: argparse.Namespace, way: Way) -> dict[str, Any]:
    """Seconds and memory of an image."""
    networks = _networks(given, way, given.device)
    resolved = _resolved(given, way, networks)
    device = torch.device(given.device)
    alone = device.type == "cpu" and given.threads == 1
    clock = time.process_time if alone else time.perf_counter

    def measure(steps: int, finish: int) -> Numbers:
        parts = Parts(device, clock)
        few = resolved.model_copy(update={"steps": steps, "finish": finish})
        started = clock()
        _run(networks.parted(parts) if given.parts else networks, few, given.batch)
        parts.turn("rest")
        seconds = [clock() - started, *parts.seconds.values()]
        return np.array([each / given.batch for each in seconds])

    at_rest = _memory(device, reset=True)
    measure(1, min(resolved.finish, 1))  # warms up
    most = given.most if _pasted(resolved, networks) in (0, 1) else resolved.steps
    seconds, *of_parts = whole(measure, resolved.steps, resolved.finish, most).tolist()
    used = _memory(device) - at_rest
    return {"seconds": seconds, "bytes": used, **dict(zip(PARTS, of_parts, strict=True))}


def whole(measure: Callable[[int, int], Numbers], steps: int, finish: int, most: int) -> Numbers:
    """What ``steps`` of the walk and ``finish`` after it cost, of which no more than ``most`` are run at once.

    More are extrapolated from what half as many cost less.
    """
    walked, finished = _fewer(steps, most), _fewer(finish, most)
    found = full = measure(walked, finished)
    if walked < steps:
        half = _fewer(steps, walked // 2)
        found = found + (full - measure(half, finished)) * ((steps - walked) / (walked - half))
    if finished < finish:
        half = _fewer(finish, finished // 2)
        found = found + (full - measure(walked, half)) * ((finish - finished) / (finished - half))
    return found


def _fewer(count: int, most: int) -> int:
    """The largest divisor of ``count`` up to ``most``: other numbers of steps the authors' walk does not know."""
    return max((each for each in range(1, min(count, most) + 1) if count % each == 0), default=0)


def _networks(given: argparse.Namespace, way: Way, device: str) -> Networks:
    arithmetic = PLAIN if way.name == THEIRS else _arithmetic(given, device)
    if given.architecture:
        prior = architecture.prior(given.architecture, device, arithmetic)
    else:
        prior = load(given.prior, device, arithmetic=arithmetic)
    if way.name == THEIRS:
        return Networks(Theirs(prior), None)
    return Networks(prior, _guide(given, prior, device, arithmetic) if way.guided else None)


def _arithmetic(given: argparse.Namespace, device: str) -> Arithmetic:
    """A worker's; on the device `meta`, where only shapes count, the plain one."""
    kind = torch.device(device).type
    return PLAIN if kind == "meta" else Arithmetic(PRECISIONS[given.precision], channels_last=kind == "cuda")


def _guide(given: argparse.Namespace, prior: DiffusersPrior, device: str, arithmetic: Arithmetic) -> Autoencoder:
    named = given.guidance_vae
    if named == TAESD:
        guide = architecture.taesd(device, arithmetic)
    else:
        guide = load_autoencoder(Path(named), device, arithmetic=arithmetic)
    side = guide.factor * prior.multiple
    if prior.latent_shape(side, side) != (guide.channels, prior.multiple, prior.multiple):
        raise SystemExit(f"{named} makes other latents than the prior")
    return guide


def _resolved(given: argparse.Namespace, way: Way, networks: Networks) -> ResolvedSpec:
    asked = {"dataset_id": "none", "canvas": {"long_side": given.long_side}, "sampler": {"preset": way.preset}}
    spec, side = ExpansionSpec.model_validate(asked), networks.prior.native_size
    return resolve(spec, prior_sha256="", native_size=side, multiple=networks.prior.multiple, images_side=side)


def _run(networks: Networks, resolved: ResolvedSpec, batch: int) -> int:
    """Regrow pictures of noise of which a sixth is kept; returns how often the networks were evaluated."""
    prior, guide = Counted(networks.prior), None if networks.guide is None else Counted(networks.guide)
    shape, rng = (batch, resolved.long_side, resolved.long_side), np.random.default_rng(0)
    pictures = rng.uniform(-1, 1, (batch, 3, *shape[1:])).astype(np.float32)
    keep = rng.random(shape) < 1 / 6
    recipe.regrow(prior, resolved, pictures, keep, range(batch), lambda _done, _steps: None, guide, inside=None)
    return prior.evaluations + (0 if guide is None else guide.evaluations)


def _memory(device: torch.device, *, reset: bool = False) -> int:
    """The most bytes that were held since the last reset."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.max_memory_allocated(device))
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
