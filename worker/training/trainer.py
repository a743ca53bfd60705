"""A training from its pictures to its last checkpoint: an autoencoder, latents, a denoiser.

Every draw comes from one generator on the CPU, whose state is part of a checkpoint with the weights, their averages
and the optimizer; so a training that is stopped and goes on ends, on a CPU, with the very weights of one that was not.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from shared.recipes import TrainingSettings
from worker.training import autoencoder, checkpoints, denoiser, models
from worker.training.errors import Diverged, TrainingMismatch
from worker.training.models import Models
from worker.training.pictures import Loader, Pictures, read

Stage = Literal["autoencoder", "latents", "denoiser", "card"]

LATENTS = "latents.pt"
SAMPLES = "samples.png"

_PREVIEWS, _PREVIEW_STEPS = 8, 25
_WARM_UP = 50
_LONGEST_GRADIENT = 1.0
_DECAY = 1e-4


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a training is. `step` of `steps` counts those of both models together.

    `checkpointed` is True right after a checkpoint was written. `held_out`, where it was just measured, is the PSNR of
    held-out pictures in dB (autoencoder) or the held-out loss (denoiser).
    """

    stage: Stage
    step: int
    steps: int
    loss: float
    checkpointed: bool
    held_out: float | None = None


OnStep = Callable[[TrainingProgress], None]


@dataclass(slots=True)
class _Run:
    """A training in memory."""

    folder: Path
    settings: TrainingSettings
    pictures: Pictures
    models: Models
    device: torch.device
    fingerprint: str
    on_step: OnStep
    generator: torch.Generator
    optimizer: torch.optim.AdamW
    stage: Stage = "autoencoder"
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    pictures: Sequence[Loader],
    settings: TrainingSettings,
    folder: Path,
    *,
    init: Path | None,
    device: torch.device,
    on_step: OnStep,
) -> None:
    """Train until done, going on from the checkpoint in `folder` if there is one; see the package's docstring."""
    folder.mkdir(parents=True, exist_ok=True)
    run = _begin(read(pictures, settings), settings, folder, init, device, on_step)
    if run.stage == "autoencoder":
        _train_autoencoder(run)
        run.stage, run.step = "denoiser", 0
        run.models.vae_average.register_to_config(scaling_factor=1 / _latents(run)[0].std().item())
        run.optimizer = _optimizer(run)
        _save(run)
    _train_denoiser(run)


def samples(folder: Path) -> Path:
    """Where the newest samples of the training in `folder` are, a PNG; it may not be there yet."""
    return folder / SAMPLES


def _begin(
    pictures: Pictures, settings: TrainingSettings, folder: Path, init: Path | None, device: torch.device, on_step: OnStep
) -> _Run:
    fingerprint = _fingerprint(pictures, settings, init)
    kept = checkpoints.load(folder / checkpoints.CHECKPOINT)
    if kept is not None and kept["fingerprint"] != fingerprint:
        raise TrainingMismatch(
            f"{folder} holds a training of other pictures or settings. Train in another folder, or with what it began with."
        )
    large, native = pictures.large.shape[-1], pictures.native.shape[-1]
    if kept is not None:
        made = models.restored(kept["configs"])
    elif init is not None:
        made = models.continued(init, native)
    else:
        made = models.fresh(large, native, settings.seed)
    for model in (made.vae, made.vae_average, made.unet, made.unet_average):
        model.to(device)
    generator = torch.Generator().manual_seed(settings.seed)
    run = _Run(folder, settings, pictures, made, device, fingerprint, on_step, generator, None)  # type: ignore[arg-type] # set below
    if kept is not None:
        _restore(run, kept)
    else:
        run.optimizer = _optimizer(run)
    return run


def _fingerprint(pictures: Pictures, settings: TrainingSettings, init: Path | None) -> str:
    """What decides the weights. How often one looks does not, and a denoiser may be trained for longer than planned."""
    decisive = settings.model_dump(mode="json", exclude={"checkpoint_every", "sample_every", "samples", "denoiser_steps"})
    weights = [] if init is None else sorted(init.glob("*/*.safetensors"))
    parts = [decisive, pictures.digest, [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _optimizer(run: _Run) -> torch.optim.AdamW:
    model = run.models.vae if run.stage == "autoencoder" else run.models.unet
    return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=_DECAY)


def _train_autoencoder(run: _Run) -> None:
    settings, vae = run.settings, run.models.vae
    training = run.pictures.large[~run.pictures.held_out]
    held_out = run.pictures.large[run.pictures.held_out]

    def loss() -> Tensor:
        x = autoencoder.crops(training, settings.crop, settings.autoencoder_batch, run.generator).to(run.device)
        return autoencoder.loss(vae, x, settings.kl, run.generator)

    while run.step < settings.autoencoder_steps:
        rate = settings.autoencoder_rate * _one_cycle(run.step, settings.autoencoder_steps)
        value = _descend(run, vae, run.models.vae_average, rate, loss)
        psnr = None
        if run.step % settings.sample_every == 0:
            psnr = autoencoder.psnr(run.models.vae_average, held_out, run.device)
        _tell(run, value, run.step, psnr)


def _train_denoiser(run: _Run) -> None:
    settings, unet, alpha_bar = run.settings, run.models.unet, run.models.alpha_bar
    scale = run.models.vae_average.config.scaling_factor
    training, held_out = (z * scale for z in _latents(run))

    def loss() -> Tensor:
        rows = torch.randint(len(training), (settings.denoiser_batch,), generator=run.generator)
        return denoiser.loss(unet, training[rows].to(run.device), alpha_bar, run.generator)

    while run.step < settings.denoiser_steps:
        rate = settings.denoiser_rate * min(1.0, (run.step + 1) / _WARM_UP)
        value = _descend(run, unet, run.models.unet_average, rate, loss)
        found = None
        if run.step % settings.sample_every == 0:
            found = denoiser.held_out_loss(run.models.unet_average, held_out, alpha_bar, run.device)
            _draw(run)
        _tell(run, value, settings.autoencoder_steps + run.step, found)


def _one_cycle(step: int, steps: int) -> float:
    """Up for a twentieth of the steps, then down to 0 along a cosine."""
    rise = max(1, steps // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _descend(run: _Run, model: Any, average: Any, rate: float, loss: Callable[[], Tensor]) -> float:
    """One step of the optimizer. Raises Diverged, with the weights as they were, if the loss is no number."""
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(run.device.type, dtype=torch.bfloat16, enabled=run.settings.bfloat16):
        value = loss()
    if not value.isfinite():
        raise Diverged(
            f"The loss of the {run.stage} became {value.item()} in step {run.step + 1}. The last checkpoint stays; train "
            "anew with a lower learning rate."
        )
    run.optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call] # not annotated
    torch.nn.utils.clip_grad_norm_(model.parameters(), _LONGEST_GRADIENT)
    run.optimizer.step()
    models.follow(average, model, run.settings.average, run.step)
    run.step += 1
    return float(value.detach())


def _latents(run: _Run) -> tuple[Tensor, Tensor]:
    """Latents of the training pictures, VIEWS of each, and of those held out, not scaled; kept in a file once made."""
    path = run.folder / LATENTS
    key = hashlib.sha256(run.fingerprint.encode())
    for values in run.models.vae_average.state_dict().values():
        key.update(values.cpu().numpy().tobytes())
    kept = checkpoints.load(path)
    if kept is None or kept["key"] != key.hexdigest():
        kept = {"key": key.hexdigest(), "training": _encoded(run, held_out=False), "held_out": _encoded(run, held_out=True)}
        checkpoints.save(path, kept)
    return kept["training"], kept["held_out"]


def _encoded(run: _Run, *, held_out: bool) -> Tensor:
    generator = torch.Generator().manual_seed(run.settings.seed)
    made = []
    for row in np.flatnonzero(run.pictures.held_out == held_out):
        native = run.pictures.native[row]
        views = native[None] if held_out else denoiser.views(run.pictures.large[row], native, generator)
        made.append(denoiser.encode(run.models.vae_average, views, run.device))
        done = run.settings.autoencoder_steps
        run.on_step(TrainingProgress("latents", done, done + run.settings.denoiser_steps, math.nan, checkpointed=False))
    return torch.cat(made)


def _draw(run: _Run) -> None:
    z = denoiser.draw(run.models.unet_average, run.models.alpha_bar, _PREVIEWS, _PREVIEW_STEPS, run.device)
    png = BytesIO()
    denoiser.grid(denoiser.decode(run.models.vae_average, z)).save(png, format="PNG")
    checkpoints.write(run.folder / SAMPLES, png.getvalue())


def _tell(run: _Run, loss: float, step: int, held_out: float | None) -> None:
    if held_out is not None:
        run.history.append({"stage": run.stage, "step": run.step, "held_out": held_out})
    last = run.settings.autoencoder_steps if run.stage == "autoencoder" else run.settings.denoiser_steps
    checkpointed = run.step % run.settings.checkpoint_every == 0 or run.step == last
    if checkpointed:
        _save(run)
    steps = run.settings.autoencoder_steps + run.settings.denoiser_steps
    run.on_step(TrainingProgress(run.stage, step, steps, loss, checkpointed, held_out))


def _save(run: _Run) -> None:
    checkpoints.save(
        run.folder / checkpoints.CHECKPOINT,
        {
            "fingerprint": run.fingerprint,
            "settings": run.settings.model_dump_json(),
            "configs": json.loads(json.dumps(run.models.configs())),
            "scaling_factor": run.models.vae_average.config.scaling_factor,
            "stage": run.stage,
            "step": run.step,
            "history": run.history,
            "weights": {name: getattr(run.models, name).state_dict() for name in _WEIGHTS},
            "optimizer": run.optimizer.state_dict(),
            "generator": run.generator.get_state(),
        },
    )


_WEIGHTS = ("vae", "vae_average", "unet", "unet_average")


def _restore(run: _Run, kept: dict[str, Any]) -> None:
    run.stage, run.step, run.history = kept["stage"], kept["step"], kept["history"]
    for name in _WEIGHTS:
        getattr(run.models, name).load_state_dict(kept["weights"][name])
    run.models.vae_average.register_to_config(scaling_factor=kept["scaling_factor"])
    run.optimizer = _optimizer(run)
    run.optimizer.load_state_dict(kept["optimizer"])
    run.generator.set_state(kept["generator"])
