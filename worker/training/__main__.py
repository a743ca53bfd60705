"""Train a prior from pictures, with no service at all; stopped, it goes on where its last checkpoint is.

python -m worker.training hands/ --recipe small -o prior
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from pydantic import ValidationError

from shared import images
from shared.errors import Conflict, RegrowError
from shared.formats import read
from shared.formats.samples import Sample
from shared.formats.zips import Limits, SafeZip
from shared.recipes import TrainingSettings
from worker.priors.diffusers import BUILTIN
from worker.training import TrainingProgress, install, train
from worker.training.pictures import Loader
from worker.training.trainer import conclude

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_SHOW_SECONDS = 10
_LIMITS = Limits(members=100_000, bytes=2**36)


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
        sources = [source for path in args.pictures for source in _sources(path)]
    except ValidationError as error:
        parser.error("; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors()))
    except (OSError, RegrowError) as error:
        parser.error(str(error))
    init = BUILTIN if args.init == "builtin" else args.init and Path(args.init)
    run = conclude if args.finish else train
    try:
        loaders = [source.load for source in sources]
        shown = [source.classes for source in sources]
        run(loaders, settings, state, init=init, device=args.device, on_step=_Show(), classes=shown)
        about = {"licence": args.licence, "sources": sorted({source.sha256 for source in sources})}
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
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the pictures, for the prior's card")
    parser.add_argument("--init", metavar="FOLDER", help="a prior to begin with; `builtin` is the built-in one")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    for name, field in TrainingSettings.model_fields.items():
        said = f"{field.description} (default: {field.default})".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="X", help=said)
    return parser


@dataclass(frozen=True, slots=True)
class _Source:
    """An image file: the hash of its bytes, and how to decode it."""

    sha256: str
    load: Loader
    classes: tuple[str, ...] = ()


def _sources(path: Path) -> Iterator[_Source]:
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES):
            yield _Source(hashlib.sha256(file.read_bytes()).hexdigest(), partial(_from_file, file))
        return
    with SafeZip(path, _LIMITS) as archive:
        contents = read(archive)
        for sample in contents.samples:
            if sample.split == "train":
                data = archive.read(sample.member)
                shown = tuple(contents.names[index] for index in sorted({box.class_index for box in sample.boxes}))
                yield _Source(hashlib.sha256(data).hexdigest(), partial(_from_zip, path, sample), shown)


def _from_file(path: Path) -> Image.Image:
    return images.open_image(path.read_bytes(), str(path))


def _from_zip(path: Path, sample: Sample) -> Image.Image:
    with SafeZip(path, _LIMITS) as archive:
        return images.open_image(archive.read(sample.member), sample.image)


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
