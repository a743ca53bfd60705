"""The last stage: what is to be installed, and what was measured of it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worker.priors.files import CARD, Files, read_config
from worker.priors.text import copy_text
from worker.training import autoencoder, checkpoints, denoiser, memory, words
from worker.training.adapters import bare, merged
from worker.training.run import Run

DRAW_STEPS = 50
_AT_ONCE = 8


def finish(run: Run, init: Path | None) -> None:
    """Measure the averaged weights, in float16 as they are installed, and write both to the training's folder."""
    done = checkpoints.load(run.folder / checkpoints.FINISHED)
    if done is not None and (done["fingerprint"], done["step"]) == (run.fingerprint, run.step):
        return
    vae, unet = (_rounded(model) for model in (run.models.vae_average, run.models.unet_average))
    run.tell_stage("card")
    pictures, held_out = run.pictures, run.pictures.held_out
    samples = _samples(run, vae, unet)
    with torch.no_grad():
        latents = torch.cat([denoiser.encode(vae, row[None], run.device) for row in pictures.native[held_out]])
    of_held_out = None if run.which is None else run.which[torch.from_numpy(held_out)]
    known = denoiser.known_cells(pictures.known_native[held_out], latents.shape[-1])
    run.tell_stage("card")
    card: dict[str, Any] = {
        "settings": run.settings.model_dump(mode="json"),
        "steps": {"autoencoder": run.settings.first_steps, "denoiser": run.step},
        "sides": {"autoencoder": pictures.large.shape[-1], "denoiser": pictures.native.shape[-1]},
        "init": run.init,
        "inherited": _learned(init),
        "data": {
            "training": int((~held_out).sum()),
            "held_out": int(held_out.sum()),
            "sha256": pictures.digest,
            "pixels_sha256": list(pictures.digests),
        },
        "reconstruction_psnr": autoencoder.psnr(
            vae, pictures.large[held_out], pictures.known_large[held_out], run.device
        ),
        "held_out_loss": denoiser.held_out_loss(
            unet, latents * run.models.scale, known, run.models.alpha_bar, run.device, of_held_out
        ),
        "memorisation": memory.check(samples, pictures.native[~held_out], pictures.native[held_out]),
        "history": run.history,
    }
    if run.models.configs()["conditional"] and init is not None:
        if isinstance(unet, words.Worded):
            names = [name for classes in pictures.combinations for name in classes]
            words.write_text(Files(init), run.folder, unet, names)
        else:
            copy_text(Files(init), run.folder)
    checkpoints.save(
        run.folder / checkpoints.FINISHED,
        {
            "fingerprint": run.fingerprint,
            "step": run.step,
            "configs": run.models.configs(),
            "vae": vae.half().state_dict(),
            "unet": bare(unet).half().state_dict(),
            "samples": torch.from_numpy(np.asarray(denoiser.grid(samples)).copy()),
            "card": card,
        },
    )


def _learned(init: Path | None) -> list[str]:
    """Hashes of the image files that the prior to begin with has learned from, as far as its card tells."""
    if init is None or not (init / CARD).is_file():
        return []
    about = read_config(init / CARD).get("about")
    return sorted(map(str, about.get("sources", []))) if isinstance(about, dict) else []


def _samples(run: Run, vae: Any, unet: Any) -> Any:
    found: list[Tensor] = []
    for first in range(0, run.settings.samples, _AT_ONCE):
        count = min(_AT_ONCE, run.settings.samples - first)
        z = denoiser.draw(unet, run.models.alpha_bar, count, DRAW_STEPS, run.device, first=first)
        found.append(z)
        run.tell_stage("card")
    return denoiser.decode(vae, torch.cat(found), run.models.scale)


def _rounded(model: Any) -> Any:
    return merged(model).half().float().requires_grad_(False).eval()
