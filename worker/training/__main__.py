"""Train a prior from pictures, with no service at all; stopped, it goes on where its last checkpoint is.

python -m worker.training hands/ --recipe small -o prior
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from shared.recipes import TrainingSettings
from worker.training import TrainingProgress, command, install, train
from worker.training.trainer import conclude

_SHOW_SECONDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the prior is installed, 1 when training failed. Exits with 2 for bad arguments."""
    parser = command.parser("python -m worker.training", "Train a prior from pictures.", TrainingSettings)
    parser.add_argument("--finish", action="store_true", help="train no further: install the last checkpoint")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        metavar="N",
        help="train the denoiser no longer than until so many minutes from the start",
    )
    parser.add_argument("--init", metavar="FOLDER", help="a prior to begin with; `builtin` is the built-in one")
    asked = command.read(parser, TrainingSettings, argv)
    args, target = asked.args, asked.args.output

    def work() -> str:
        run = conclude if args.finish else partial(train, enough=_after(args.minutes))
        run(
            [source.load for source in asked.sources],
            asked.settings,
            asked.state,
            init=command.prior(args.init) if args.init else None,
            device=args.device,
            on_step=_Show(),
            classes=[source.classes for source in asked.sources],
        )
        install(asked.state, target, name=target.name, about=asked.about)
        return f"{target}: installed. {asked.state} may be deleted, or trained further."

    return command.ended(parser, work)


def _after(minutes: float) -> Callable[[], bool]:
    end = time.monotonic() + 60 * minutes
    return lambda: time.monotonic() > end


class _Show:
    """Writes where the training is, every few seconds and when something was measured."""

    def __init__(self) -> None:
        self._shown = 0.0
        self._losses: list[float] = []

    def __call__(self, progress: TrainingProgress) -> None:
        self._losses.append(progress.loss)
        now = time.monotonic()
        last = progress.checkpointed and progress.step == progress.steps
        if now - self._shown < _SHOW_SECONDS and progress.held_out is None and not last:
            return
        loss = sum(self._losses) / len(self._losses)
        held_out = "" if progress.held_out is None else f", held out {progress.held_out:.4f}"
        sys.stderr.write(f"{progress.stage}: step {progress.step} of {progress.steps}, loss {loss:.4f}{held_out}\n")
        self._shown, self._losses = now, []


if __name__ == "__main__":
    sys.exit(main())
