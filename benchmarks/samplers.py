"""How to spend a CPU's cores: one sampler with all of them, or one sampler a core? `python -m benchmarks.samplers`

Prints sampler steps a second, all samplers together, with the built-in prior at its native size. The arrangements take
turns, so that a busy moment of the machine does not fall on one of them alone.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence

_WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="steps of each sampler (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--worker", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        _sample(arguments.worker, arguments.steps)
        return
    cores = os.cpu_count() or 1
    arrangements = sorted({(1, 1), (1, cores), (cores, 1)})
    print(f"{cores} cores, {arguments.steps} steps a sampler, steps a second of all samplers together")
    print("samplers  threads each  " + "  ".join(f"round {n + 1}" for n in range(arguments.rounds)))
    rates: dict[tuple[int, int], list[float]] = {arrangement: [] for arrangement in arrangements}
    for _ in range(arguments.rounds):
        for samplers, threads in arrangements:
            rates[samplers, threads].append(_rate(samplers, threads, arguments.steps))
    for (samplers, threads), measured in rates.items():
        print(f"{samplers:8}  {threads:12}  " + "  ".join(f"{rate:7.2f}" for rate in measured))


def _rate(samplers: int, threads: int, steps: int) -> float:
    command = [sys.executable, "-m", "benchmarks.samplers", "--steps", str(steps), "--worker", str(threads)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(samplers)
    ]
    _hear(running)  # each has loaded and warmed up, and waits for the others
    start = time.perf_counter()
    for process in running:
        assert process.stdin is not None  # noqa: S101  (narrows the type)
        process.stdin.write("go\n")
        process.stdin.flush()
    _hear(running)
    seconds = time.perf_counter() - start
    for process in running:
        process.communicate()
    return samplers * steps / seconds


def _hear(running: Sequence["subprocess.Popen[str]"]) -> None:
    """Wait for a line from each."""
    for process in running:
        assert process.stdout is not None  # noqa: S101  (narrows the type)
        process.stdout.readline()


def _sample(threads: int, steps: int) -> None:
    import torch

    from worker.priors.diffusers import BUILTIN, load
    from worker.psld.operators import Inpaint
    from worker.psld.sampler import Guidance, sample

    torch.set_num_threads(threads)
    prior = load(BUILTIN)
    side = prior.native_size
    operator = Inpaint((torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0)) < 0.3).float())
    y = operator.forward(torch.zeros(1, 3, side, side))

    def run(count: int) -> None:
        sample(prior, operator, y, [torch.Generator().manual_seed(0)], Guidance(count, 0.5, 2.5))

    run(_WARM_UP)
    print("ready", flush=True)
    sys.stdin.readline()
    run(steps)
    print("done", flush=True)


if __name__ == "__main__":
    main()
