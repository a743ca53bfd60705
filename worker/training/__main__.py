"""Train a prior from pictures, with no service at all; stopped, it goes on where its last checkpoint is.

python -m worker.training hands/ --recipe small -o prior
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from pydantic import ValidationError

from shared.errors import Conflict, RegrowError
from shared.recipes import TrainingSettings
from worker.priors.diffusers import BUILTIN
from worker.training import TrainingProgress, install, train
from worker.training.sources import sources
from worker.training.trainer import conclude

_SHOW_SECONDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the prior is installed, 1 when training failed. Exits with 2 for bad arguments."""
    parser = _parser()
    args = parser.parse_args(argv)
    numbers = {name: getattr(args, name) for name in TrainingSettings.model_fields if getattr(args, name) is not None}
    state = args.state or args.output.with_name(args.output.name + ".training")
    try:
        if args.output.exists():
            raise Conflict(f"{args.output} exists; a prior is not written over another")
        settings = TrainingSettings(**numbers)
        found = [source for path in args.pictures for source in sources(path)]
    except ValidationError as error:
        parser.error("; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors()))
    except (OSError, RegrowError) as error:
        parser.error(str(error))
    init = BUILTIN if args.init == "builtin" else args.init and Path(args.init)
    run = conclude if args.finish else partial(train, enough=_after(args.minutes))
    try:
        loaders = [source.load for source in found]
        shown = [source.classes for source in found]
        run(loaders, settings, state, init=init, device=args.device, on_step=_Show(), classes=shown)
        about = {"licence": args.licence, "sources": sorted({source.sha256 for source in found})}
        install(state, args.output, name=args.output.name, about=about)
    except (OSError, RegrowError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    sys.stderr.write(f"{args.output}: installed. {state} may be deleted, or trained further.\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.training", description="Train a prior from pictures.")
    parser.add_argument(
        "pictures",
        type=Path,
        nargs="+",
        metavar="DATASET.zip|FOLDER",
        help="a data set, of which train is used, or images",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="where the prior is to be")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="of the training (default: OUT.training)")
    parser.add_argument("--finish", action="store_true", help="train no further: install the last checkpoint")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        metavar="N",
        help="train the denoiser no longer than until so many minutes from the start",
    )
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the pictures, for the prior's card")
    parser.add_argument("--init", metavar="FOLDER", help="a prior to begin with; `builtin` is the built-in one")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    for name, field in TrainingSettings.model_fields.items():
        said = f"{field.description} (default: {field.default})".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="X", help=said)
    return parser


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
