"""A finished training becomes a prior that jobs can name."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from shared import disk
from worker.priors.diffusers import CARD, load
from worker.priors.text import PARTS
from worker.training import checkpoints, models
from worker.training.errors import CannotTrain

_CARD = """# {name}

A latent prior of the recipe `{recipe}`, trained by Regrow on {pictures} pictures; {held_out} more were held out.

| measured on held-out pictures and {drawn} samples | |
|---|---|
| reconstruction by the autoencoder at {side} px | {psnr:.2f} dB PSNR |
| held-out loss of the denoiser | {loss:.4f} |
| samples nearer to a training picture than 95 % of held-out pictures are | {near:.0%} |
| distance to the nearest training picture, median: samples, held-out pictures | {ours:.1f}, {real:.1f} grey levels |

**Training.** {autoencoder_steps} steps of the autoencoder, {denoiser_steps} of the denoiser, at {side} and
{native} px. Began with {init}. All settings and hashes: card.json.

**Memorisation.** About 5 % of samples are expected to be that near by chance. Distances are between 32 x 32 grey
averages: copies are found, copied details are not.

**Data.** {data}

**Limits.** Not for clinical use: what it draws must not be read as a finding. It knows only what its pictures show.
"""


def install(folder: Path, target: Path, *, name: str, about: dict[str, Any]) -> None:
    """Write the prior of a finished training to `target`, which appears whole or not at all.

    Raises Conflict if there is a `target`, CannotTrain if the training is not finished, OSError of a full disk.
    """
    finished = checkpoints.load(folder / checkpoints.FINISHED)
    if finished is None:
        raise CannotTrain(f"{folder} holds no finished training.")
    with checkpoints.new_folder(target) as partial:
        _write(partial, finished, folder, name, about)
        load(partial)  # what cannot be loaded is not installed


def _write(partial: Path, finished: dict[str, Any], folder: Path, name: str, about: dict[str, Any]) -> None:
    for model, part in zip(models.empty(finished["configs"]), ("vae", "unet"), strict=True):
        model.load_state_dict(finished[part])
        model.half().save_pretrained(partial / part)
    if finished["configs"]["conditional"]:
        for part in PARTS:
            shutil.copytree(folder / part, partial / part)
    (partial / "scheduler").mkdir()
    schedule = finished["configs"]["schedule"] | {"_class_name": "DDIMScheduler"}
    (partial / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule, indent=2) + "\n", "utf-8")
    Image.fromarray(finished["samples"].numpy()).save(partial / checkpoints.SAMPLES)
    weights = {
        path.relative_to(partial).as_posix(): disk.sha256(path) for path in sorted(partial.glob("*/*.safetensors"))
    }
    measured = dict(finished["card"])
    if inherited := measured.pop("inherited", []):
        # What the prior to begin with has seen, this one may know too.
        about = {**about, "sources": sorted({*about.get("sources", []), *inherited})}
    card = {
        "name": name,
        "installed": datetime.now(UTC).isoformat(timespec="seconds"),
        **measured,
        "about": about,
        "weights": weights,
    }
    (partial / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (partial / "README.md").write_text(_in_words(card), "utf-8")


def _in_words(card: dict[str, Any]) -> str:
    memory, about = card["memorisation"], card["about"]
    said = [f"Licence: {about.get('licence') or 'not stated; ask who gave the pictures'}."]
    begun_with = "random weights" if card["init"] is None else "an installed prior"
    if isinstance(about.get("init"), dict):
        begun_with = f"the prior {about['init']['name']} (SHA-256 {about['init']['sha256']})"
    said += [f"{key}: {value}." for key, value in about.items() if key != "licence" and isinstance(value, str | int)]
    return _CARD.format(
        name=card["name"],
        recipe=card["settings"]["recipe"],
        pictures=card["data"]["training"],
        held_out=card["data"]["held_out"],
        drawn=memory["samples"],
        side=card["sides"]["autoencoder"],
        native=card["sides"]["denoiser"],
        psnr=card["reconstruction_psnr"],
        loss=card["held_out_loss"],
        near=memory["near_share"],
        ours=memory["median_of_samples"],
        real=memory["median_of_held_out"],
        autoencoder_steps=card["steps"]["autoencoder"],
        denoiser_steps=card["steps"]["denoiser"],
        init=begun_with,
        data=" ".join(said) + f" SHA-256 of the pictures: {card['data']['sha256']}.",
    )
