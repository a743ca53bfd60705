"""Make a small autoencoder of a prior's latents, to guide jobs with; stopped, it goes on from its last checkpoint.

python -m worker.training.distil hands.zip --prior builtin -o small
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from pydantic import ValidationError

from shared import disk
from shared.errors import Conflict, RegrowError
from worker.priors.check import load_autoencoder
from worker.priors.diffusers import BUILTIN
from worker.priors.files import CARD
from worker.training import checkpoints
from worker.training.errors import CannotTrain
from worker.training.pupil import DistilSettings, distil
from worker.training.sources import sources

_TINY: Any = AutoencoderTiny


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the autoencoder is there, 1 when training failed. Exits with 2 for bad arguments."""
    parser = _parser()
    args = parser.parse_args(argv)
    numbers = {name: getattr(args, name) for name in DistilSettings.model_fields if getattr(args, name) is not None}
    state = args.state or args.output.with_name(args.output.name + ".training")
    try:
        if args.output.exists():
            raise Conflict(f"{args.output} exists; an autoencoder is not written over another")
        settings = DistilSettings(**numbers)
        found = [source for path in args.pictures for source in sources(path)]
    except ValidationError as error:
        parser.error("; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors()))
    except (OSError, RegrowError) as error:
        parser.error(str(error))
    prior = BUILTIN if args.prior == "builtin" else Path(args.prior)
    try:
        distil([source.load for source in found], settings, prior, state, device=args.device, on_step=_shown(settings))
        about = {"licence": args.licence, "sources": sorted({source.sha256 for source in found})}
        install(state, args.output, about=about)
    except (OSError, RegrowError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    sys.stderr.write(
        f"{args.output}: done. `regrow priors add {args.output} --name {args.output.name}` makes it known to a "
        f"service, and `sampler.guidance_vae` names it. {state} may be deleted.\n"
    )
    return 0


def install(folder: Path, target: Path, *, about: dict[str, Any]) -> None:
    """Write the autoencoder of a finished training to ``target`` in float16, with a card: whole or not at all.

    ``about`` is what the card is to say of the pictures. Raises Conflict if there is a ``target``, CannotTrain if the
    training is not finished, OSError of a full disk.
    """
    kept = checkpoints.load(folder / checkpoints.CHECKPOINT)
    if kept is None or kept["step"] < kept["settings"]["steps"]:
        raise CannotTrain(f"{folder} holds no finished training.")
    with checkpoints.new_folder(target) as partial:
        small = _TINY.from_config(kept["config"])
        small.load_state_dict(kept["average"])
        small.half().save_pretrained(partial)
        load_autoencoder(partial, "cpu")  # what cannot be loaded is not installed
        (weights,) = partial.glob("*.safetensors")
        card = {
            "settings": kept["settings"],
            "parameters": small.num_parameters(),
            "teacher": kept["teacher"],
            "data": kept["data"],
            "about": about,
            **kept["history"][-1],
            "history": kept["history"],
            "weights": {weights.name: disk.sha256(weights)},
        }
        (partial / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker.training.distil",
        description="Make a small autoencoder of a prior's latents, to guide jobs with.",
    )
    parser.add_argument(
        "pictures",
        type=Path,
        nargs="+",
        metavar="DATASET.zip|FOLDER",
        help="a data set, of which train is used, or images",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="where it is to be")
    parser.add_argument("--prior", default="builtin", metavar="FOLDER", help="whose latents (default: %(default)s)")
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="of the training (default: OUT.training)")
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the pictures, for the card")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    for name, field in DistilSettings.model_fields.items():
        said = f"{field.description} (default: {field.default})".replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="X", help=said)
    return parser


def _shown(settings: DistilSettings) -> Any:
    def show(step: int, loss: float, measured: dict[str, float] | None) -> None:
        if measured is not None:
            said = ", ".join(f"{name} {value:.2f}" for name, value in measured.items())
            sys.stderr.write(f"step {step} of {settings.steps}, loss {loss:.4f}; held out: {said}\n")

    return show


if __name__ == "__main__":
    sys.exit(main())
