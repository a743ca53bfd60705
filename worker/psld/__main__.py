"""Regrow one image, with no service at all.

python -m worker.psld hand.png --keep 0.2,0.2,0.6,0.6 --seed 3 -o new.png
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from shared import images
from shared.errors import RegrowError
from shared.masks import inside_area
from shared.plan import Labels, blend, keep_mask
from shared.spec import MAX_SEED, PRESETS, ExpansionSpec, ResolvedSpec, Sampler, resolve
from worker import recipe
from worker.priors.diffusers import BUILTIN, BadPrior, load
from worker.psld.prior import LatentPrior
from worker.psld.sampler import NumericalFault


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the image is written, 1 when sampling failed. Exits with 2 for bad arguments."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    try:
        original = images.open_image(args.image.read_bytes(), str(args.image))
        images.encode(original, _format(args.output))  # a format that cannot hold it is refused now, not hours later
        prior = load(args.prior, args.device)
        resolved = _resolved(args.preset, args.steps, prior, max(original.size))
        # Refuses more steps than the prior has.
        recipe.guidance(resolved).conventions.walk(prior.alpha_bar, resolved.steps)
    except (OSError, RegrowError, BadPrior, ValueError) as error:
        parser.error(str(error))
    try:
        result = regrow(original, [(0, *box) for box in args.keep], args.seed, resolved, prior)
    except NumericalFault as error:
        sys.stderr.write(f"\n{parser.prog}: {error}\n")
        return 1
    args.output.write_bytes(images.encode(result, _format(args.output)))
    return 0


def regrow(
    original: Image.Image, boxes: Sequence[Sequence[float]], seed: int, resolved: ResolvedSpec, prior: LatentPrior
) -> Image.Image:
    """Return ``original`` with all but ``boxes`` sampled anew, as the service does with an item of this ``seed``.

    ``boxes`` are rows of class index, x0, y0, x1, y1, the last four as shares of the image.
    """
    white = images.window(int(np.asarray(original).max())) if original.mode == "I;16" else 255
    labels = Labels(boxes)
    keep, placement = keep_mask(resolved, labels, original.width, original.height, seed)
    picture = images.to_canvas(original, placement, white)
    inside = inside_area(placement)[None]
    (x,) = recipe.regrow(prior, resolved, picture[None], keep[None], [seed], _show, inside=inside)
    sys.stderr.write("\n")
    return blend(x, keep, placement, original, labels, resolved, white, seed=seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker.psld", description="Regrow what surrounds boxes in an image."
    )
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument(
        "--keep",
        type=_box,
        action="append",
        required=True,
        metavar="X,Y,W,H",
        help="a box to keep: left, top, width, height as shares of the image; may be repeated",
    )
    parser.add_argument("--seed", type=_seed, required=True, metavar="N", help="fixes the mask and the noise")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="balanced", help="(default: %(default)s)")
    parser.add_argument("--steps", type=_count, metavar="N", help="sampler steps, instead of the preset's")
    parser.add_argument("--prior", type=Path, default=BUILTIN, metavar="FOLDER", help="(default: the built-in one)")
    parser.add_argument("--device", type=_device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    parser.add_argument("--threads", type=_count, metavar="N", help="processor threads (default: torch's choice)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="its suffix is the format")
    return parser


def _resolved(preset: Any, steps: int | None, prior: LatentPrior, images_side: int) -> ResolvedSpec:
    spec = ExpansionSpec(dataset_id="none", sampler=Sampler(preset=preset))
    native, multiple = prior.native_size, prior.multiple
    resolved = resolve(spec, prior_sha256="", native_size=native, multiple=multiple, images_side=images_side)
    return resolved if steps is None else resolved.model_copy(update={"steps": steps})


def _format(path: Path) -> str:
    image_format = Image.registered_extensions().get(path.suffix.lower(), "")
    if image_format not in images.FORMATS:
        raise ValueError(f"{path}: the suffix must be that of one of {', '.join(images.FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: there is no such folder")
    return image_format


def _box(text: str) -> tuple[float, float, float, float]:
    """x, y, w, h as x0, y0, x1, y1."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: must be four numbers, as in 0.2,0.2,0.6,0.6") from error
    x1, y1 = x + w, y + h
    if not (0 <= x < x1 <= 1 + 1e-9 and 0 <= y < y1 <= 1 + 1e-9):
        raise argparse.ArgumentTypeError(f"{text}: must lie inside the image, as shares of it between 0 and 1")
    return x, y, min(x1, 1.0), min(y1, 1.0)


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text}: must be between 0 and {MAX_SEED}")
    return seed


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return count


def _device(text: str) -> torch.device:
    try:
        return torch.empty(0, device=text).device
    except (AssertionError, RuntimeError) as error:  # torch raises either where it was built without that device
        raise argparse.ArgumentTypeError(f"{text}: {str(error).splitlines()[0]}") from error


def _show(done: int, steps: int) -> None:
    sys.stderr.write(f"\rstep {done} of {steps}")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
