"""A small autoencoder of a prior's latents, that learns to do what the prior's own does, its teacher.

Both are given the same. For the decoder that is the latents of random crops, with noise, as clean estimates along a
walk are no latents of true pictures; for the encoder, pictures that are partly those crops and partly what the teacher
decoded, pixel by pixel, as they are when a measurement is glued in. Stopped, it goes on from its last checkpoint, and
ends, on a CPU, with the weights that it would have had.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from pydantic import Field
from torch import Tensor

from shared.recipes import MULTIPLE, TrainingSettings
from shared.strict import Strict
from worker.priors import autoencoders
from worker.priors.autoencoders import Autoencoder
from worker.priors.diffusers import autoencoder_part
from worker.priors.files import BadPrior, Files
from worker.training import checkpoints
from worker.training.autoencoder import as_floats, crops, one_cycle, size
from worker.training.errors import CannotTrain, Diverged, TrainingMismatch
from worker.training.models import follow
from worker.training.pictures import Loader, Pictures, read

OnStep = Callable[[int, float, dict[str, float] | None], None]
"""Called with the steps done, the loss, and what was measured on held-out pictures, where that is so."""

_TINY: Any = AutoencoderTiny
_LONGEST_GRADIENT = 1.0
_DECAY = 1e-4
_FEWEST_STAGES = 2


class DistilSettings(Strict):
    """How a small autoencoder is trained. The same settings, pictures and seed give the same weights on a CPU."""

    image_side: int | None = Field(
        None,
        ge=16,
        le=512,
        multiple_of=MULTIPLE,
        description="Side of the square, in pixels, on which pictures are seen. Left out: their median long side, "
        "between the crop and 320.",
    )
    crop: int = Field(96, ge=16, le=512, multiple_of=MULTIPLE, description="Side of the random crops, in pixels.")
    channels: int = Field(16, ge=1, le=256, description="Of all its layers; TAESD has 64.")
    depth: int = Field(2, ge=0, le=8, description="Blocks at each size but the largest; TAESD has 3.")
    steps: int = Field(4000, ge=1, le=1_000_000, description="Steps.")
    batch: int = Field(8, ge=1, le=256, description="Crops a step.")
    rate: float = Field(
        2e-3, gt=0, le=0.1, description="Highest learning rate; it rises for a twentieth of the steps, then falls to 0."
    )
    noise: float = Field(0.3, ge=0, le=2, description="Most noise in the latents; theirs is a variance of 1.")
    average: float = Field(0.999, ge=0, lt=1, description="What the moving average of the weights keeps at each step.")
    checkpoint_every: int = Field(200, ge=1, le=100_000, description="Steps between checkpoints, and looks.")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Fixes every draw.")


@dataclass(slots=True)
class _Run:
    teacher: Autoencoder
    taught_by: str
    """A hash of the teacher's weights."""
    pupil: Any
    average: Any
    pictures: Pictures
    settings: DistilSettings
    device: torch.device
    fingerprint: str
    generator: torch.Generator
    optimizer: torch.optim.AdamW
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def distil(
    loaders: Sequence[Loader],
    settings: DistilSettings,
    prior: Path,
    folder: Path,
    *,
    device: torch.device,
    on_step: OnStep,
) -> None:
    """Train until done, going on from the checkpoint in ``folder`` if there is one.

    Raises CannotTrain (pictures or prior), Diverged, TrainingMismatch and OSError as `worker.training.train` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _begin(loaders, settings, prior, folder, device)
    while run.step < settings.steps:
        value = _descend(run)
        measured = None
        if run.step % settings.checkpoint_every == 0 or run.step == settings.steps:
            measured = measure(run.teacher, Autoencoder(run.average), run.pictures, run.device)
            run.history.append({"step": run.step, **measured})
            _save(run, folder)
        on_step(run.step, value, measured)


def loss(teacher: Autoencoder, pupil: Autoencoder, x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """How far the pupil is from its teacher, given crops (B, 3, H, W)."""
    rows = (len(x), 1, 1, 1)
    with torch.no_grad():
        z = teacher.encode(x)
        n = torch.randn(z.shape, generator=generator) * noise * torch.rand(rows, generator=generator)
        z = z + n.to(z)
        shown = teacher.decode(z)
        known = torch.rand(len(x), 1, *x.shape[-2:], generator=generator) < torch.rand(rows, generator=generator)
        glued = torch.where(known.to(x.device), x, shown)
        latents = teacher.encode(glued)
    return size(pupil.decode(z) - shown) + (pupil.encode(glued) - latents).square().mean()


@torch.no_grad()
def measure(teacher: Autoencoder, pupil: Autoencoder, pictures: Pictures, device: torch.device) -> dict[str, float]:
    """Of held-out pictures, in dB: the teacher's pictures of its own latents against the original, the pupil's of the
    same latents against the original and against the teacher's, and the teacher's of the pupil's latents against those
    of its own."""
    found = []
    for picture in pictures.large[pictures.held_out]:
        x = as_floats(picture[None]).to(device)
        z = teacher.encode(x)
        shown, ours, through = teacher.decode(z), pupil.decode(z), teacher.decode(pupil.encode(x))
        found.append([_psnr(*pair) for pair in ((shown, x), (ours, x), (ours, shown), (through, shown))])
    names = ("teacher_psnr", "decoder_psnr", "decoder_to_teacher_psnr", "encoder_to_teacher_psnr")
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))


def _begin(
    loaders: Sequence[Loader], settings: DistilSettings, prior: Path, folder: Path, device: torch.device
) -> _Run:
    checkpoints.sweep(folder)
    teacher, its_hash = _teacher(prior, device)
    if settings.crop % teacher.factor:
        raise CannotTrain(f"The crop of {settings.crop} px is no multiple of the {teacher.factor} of {prior}.")
    pictures = read(loaders, TrainingSettings(crop=settings.crop, image_side=settings.image_side))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        pupil = _TINY(**_config(settings, teacher)).to(device).train()
    average = copy.deepcopy(pupil).requires_grad_(False).eval()
    parts = [settings.model_dump(mode="json"), pictures.digest, its_hash]
    run = _Run(
        teacher,
        its_hash,
        pupil,
        average,
        pictures,
        settings,
        device,
        hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(),
        torch.Generator().manual_seed(settings.seed),
        torch.optim.AdamW(pupil.parameters(), betas=(0.9, 0.99), weight_decay=_DECAY),
    )
    kept = checkpoints.load(folder / checkpoints.CHECKPOINT)
    if kept is not None:
        _restore(run, kept, folder)
    return run


def _teacher(prior: Path, device: torch.device) -> tuple[Autoencoder, str]:
    """The prior's own autoencoder, and a hash of its weights."""
    files = Files(prior)
    try:
        module = autoencoders.read(files, autoencoder_part(files)).to(device)
    except BadPrior as error:
        raise CannotTrain(f"The prior cannot be used: {error}") from error
    teacher = Autoencoder(module)
    if teacher.factor < _FEWEST_STAGES:
        raise CannotTrain(f"The latents of {prior} are as large as its pictures.")
    digest = hashlib.sha256()
    for values in module.state_dict().values():
        digest.update(values.cpu().numpy().tobytes())
    return teacher, digest.hexdigest()


def _config(settings: DistilSettings, teacher: Autoencoder) -> dict[str, Any]:
    """Its latents are the teacher's as a denoiser knows them: of unit variance, which no scale is to change."""
    stages = teacher.factor.bit_length()
    widths, inner = (settings.channels,) * stages, (settings.depth,) * (stages - 1)
    return {
        "encoder_block_out_channels": widths,
        "decoder_block_out_channels": widths,
        "num_encoder_blocks": (1, *inner),
        "num_decoder_blocks": (*inner, 1),
        "latent_channels": teacher.channels,
    }


def _descend(run: _Run) -> float:
    settings, pictures = run.settings, run.pictures
    training, known = pictures.large[~pictures.held_out], pictures.known_large[~pictures.held_out]
    x, _ = crops(training, known, settings.crop, settings.batch, run.generator)
    for group in run.optimizer.param_groups:
        group["lr"] = settings.rate * one_cycle(run.step, settings.steps)
    value = loss(run.teacher, Autoencoder(run.pupil), x.to(run.device), settings.noise, run.generator)
    if not value.isfinite():
        raise Diverged(
            f"The loss became {value.item()} in step {run.step + 1}. The last checkpoint stays; train anew with a "
            "lower rate."
        )
    run.optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call] # not annotated
    torch.nn.utils.clip_grad_norm_(run.pupil.parameters(), _LONGEST_GRADIENT)
    run.optimizer.step()
    follow(run.average, run.pupil, settings.average, run.step)
    run.step += 1
    return float(value.detach())


def _save(run: _Run, folder: Path) -> None:
    """Write the checkpoint; an OSError leaves the one before."""
    pictures = run.pictures
    held_out = int(pictures.held_out.sum())
    checkpoints.save(
        folder / checkpoints.CHECKPOINT,
        {
            "fingerprint": run.fingerprint,
            "settings": run.settings.model_dump(mode="json"),
            "config": json.loads(json.dumps(dict(run.pupil.config))),
            "teacher": run.taught_by,
            "data": {
                "training": len(pictures.large) - held_out,
                "held_out": held_out,
                "side": pictures.large.shape[-1],
                "sha256": pictures.digest,
            },
            "step": run.step,
            "history": run.history,
            "pupil": run.pupil.state_dict(),
            "average": run.average.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "generator": run.generator.get_state(),
        },
    )


def _restore(run: _Run, kept: dict[str, Any], folder: Path) -> None:
    if kept["fingerprint"] != run.fingerprint:
        raise TrainingMismatch(
            f"{folder} holds a training of other pictures, settings or another prior. Train in another folder, or with "
            "what it began with."
        )
    run.step, run.history = kept["step"], kept["history"]
    run.pupil.load_state_dict(kept["pupil"])
    run.average.load_state_dict(kept["average"])
    run.optimizer.load_state_dict(kept["optimizer"])
    run.generator.set_state(kept["generator"])


def _psnr(ours: Tensor, other: Tensor) -> float:
    error = (ours.clamp(-1, 1) - other.clamp(-1, 1)).square().mean().clamp_min(1e-10)
    return float(10 * torch.log10(4 / error))
