"""Make a small autoencoder of a prior's latents, to guide jobs with; stopped, it goes on from its last checkpoint.

python -m worker.training.distil hands.zip --prior builtin -o small
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers import AutoencoderTiny

from shared import disk
from worker.priors.check import load_autoencoder
from worker.priors.files import CARD
from worker.training import checkpoints, command
from worker.training.errors import CannotTrain
from worker.training.pupil import DistilSettings, distil

_TINY: Any = AutoencoderTiny
_ABOUT = "Make a small autoencoder of a prior's latents, to guide jobs with."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the autoencoder is there, 1 when training failed. Exits with 2 for bad arguments."""
    parser = command.parser("python -m worker.training.distil", _ABOUT, DistilSettings)
    parser.add_argument("--prior", default="builtin", metavar="FOLDER", help="whose latents (default: %(default)s)")
    asked = command.read(parser, DistilSettings, argv)
    args, target = asked.args, asked.args.output

    def work() -> str:
        loaders, teacher = [source.load for source in asked.sources], command.prior(args.prior)
        distil(loaders, asked.settings, teacher, asked.state, device=args.device, on_step=_shown(asked.settings))
        install(asked.state, target, about=asked.about)
        return (
            f"{target}: done. `regrow priors add {target} --name {target.name}` makes it known to a service, and "
            f"`sampler.guidance_vae` names it. {asked.state} may be deleted."
        )

    return command.ended(parser, work)


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


def _shown(settings: DistilSettings) -> Any:
    def show(step: int, loss: float, measured: dict[str, float] | None) -> None:
        if measured is not None:
            said = ", ".join(f"{name} {value:.2f}" for name, value in measured.items())
            sys.stderr.write(f"step {step} of {settings.steps}, loss {loss:.4f}; held out: {said}\n")

    return show


if __name__ == "__main__":
    sys.exit(main())
