"""Train a prior from pictures, with no service at all; stopped, it goes on where its last checkpoint is.

python -m worker.training hands/ --recipe small -o prior
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from pydantic import ValidationError

from shared import images
from shared.errors import RegrowError
from shared.formats import read
from shared.formats.zips import Limits, SafeZip
from shared.recipes import TrainingSettings
from worker.priors.diffusers import BUILTIN
from worker.training.trainer import TrainingProgress, train

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_SHOW_SECONDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the prior is installed, 1 when training failed. Exits with 2 for bad arguments."""
    parser = _parser()
    args = parser.parse_args(argv)
    numbers = {name: getattr(args, name) for name in TrainingSettings.model_fields if getattr(args, name) is not None}
    try:
        settings = TrainingSettings(**numbers)
        loaders = [loader for path in args.pictures for loader in _loaders(path)]
    except (OSError, RegrowError, ValidationError, ValueError) as error:
        parser.error(str(error))
    init = BUILTIN if args.init == "builtin" else args.init and Path(args.init)
    try:
        train(loaders, settings, args.output / "training", init=init, device=torch.device(args.device), on_step=_Show())
    except (OSError, RegrowError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.training", description="Train a prior from pictures.")
    parser.add_argument(
        "pictures", type=Path, nargs="+", metavar="DATASET.zip|FOLDER", help="a data set, of which train is used, or images"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="where the prior is to be")
    parser.add_argument("--init", metavar="FOLDER", help="a prior to begin with; `builtin` is the built-in one")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    for name, field in TrainingSettings.model_fields.items():
        said = f"{field.description} (default: {field.default})".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="X", help=said)
    return parser


def _loaders(path: Path) -> Iterator[Callable[[], Image.Image]]:
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES):
            yield partial(_from_file, file)
        return
    with SafeZip(path, Limits(members=100_000, bytes=2**36)) as archive:
        for sample in read(archive).samples:
            if sample.split == "train":
                yield partial(_from_zip, path, sample.member, sample.image)


def _from_file(path: Path) -> Image.Image:
    return images.open_image(path.read_bytes(), str(path))


def _from_zip(path: Path, member: str, name: str) -> Image.Image:
    with SafeZip(path, Limits(members=100_000, bytes=2**36)) as archive:
        return images.open_image(archive.read(member), name)


class _Show:
    """Writes where the training is, every few seconds and when something was measured."""

    def __init__(self) -> None:
        self._shown = 0.0
        self._losses: list[float] = []

    def __call__(self, progress: TrainingProgress) -> None:
        self._losses.append(progress.loss)
        now = time.monotonic()
        if now - self._shown < _SHOW_SECONDS and progress.held_out is None:
            return
        loss = sum(self._losses) / len(self._losses)
        held_out = "" if progress.held_out is None else f", held out {progress.held_out:.4f}"
        sys.stderr.write(f"{progress.stage}: step {progress.step} of {progress.steps}, loss {loss:.4f}{held_out}\n")
        self._shown, self._losses = now, []


if __name__ == "__main__":
    sys.exit(main())
