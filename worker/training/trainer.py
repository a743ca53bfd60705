"""A training from its pictures to its card: an autoencoder, latents, a denoiser, measurements."""

import hashlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.recipes import TrainingSettings
from worker.training import autoencoder, card, checkpoints, denoiser, models
from worker.training.denoiser import VIEWS
from worker.training.errors import CannotTrain
from worker.training.pictures import NATIVE_SIDE, Classes, Loader, Pictures, read
from worker.training.run import OnStep, Run, begin

_PREVIEWS, _PREVIEW_STEPS = 8, 25
_WARM_UP = 50


def train(
    pictures: Sequence[Loader],
    settings: TrainingSettings,
    folder: Path,
    *,
    init: Path | None,
    device: torch.device,
    on_step: OnStep,
    classes: Sequence[Classes] | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Train until done, going on from the checkpoint in `folder` if there is one; see the package's docstring."""
    folder.mkdir(parents=True, exist_ok=True)
    run = begin(_read(pictures, settings, init, classes), settings, folder, init, device, on_step)
    if run.stage == "autoencoder":
        _train_autoencoder(run)
        run.models.keep_scale(_unit_scale(_latents(run)))
        run.begin_denoiser()
        run.save()
    _train_denoiser(run, enough)
    card.finish(run, init)


def _read(
    pictures: Sequence[Loader], settings: TrainingSettings, init: Path | None, classes: Sequence[Classes] | None
) -> Pictures:
    native = NATIVE_SIDE if init is None else models.native_side(init)
    return read(pictures, settings, native, classes)


def conclude(
    pictures: Sequence[Loader],
    settings: TrainingSettings,
    folder: Path,
    *,
    init: Path | None,
    device: torch.device,
    on_step: OnStep,
    classes: Sequence[Classes] | None = None,
) -> None:
    """Finish a training where its last checkpoint is, before all steps are done; otherwise as `train`.

    Raises CannotTrain while there is no denoiser yet.
    """
    run = begin(_read(pictures, settings, init, classes), settings, folder, init, device, on_step)
    if run.stage == "autoencoder":
        raise CannotTrain(f"{folder} holds no training that has come to its denoiser.")
    card.finish(run, init)


def samples(folder: Path) -> Path:
    """Where the newest samples of the training in `folder` are, a PNG; it may not be there yet."""
    return folder / checkpoints.SAMPLES


def history(folder: Path) -> Path:
    """Where the held-out figures of the training in `folder` are, a JSON list of {stage, step, held_out}, as they were
    at its last checkpoint; it may not be there yet."""
    return folder / checkpoints.HISTORY


def _train_autoencoder(run: Run) -> None:
    settings, vae = run.settings, run.models.vae
    p = run.pictures
    sets = [(p.large[~p.held_out], p.known_large[~p.held_out])]
    if settings.crop <= p.native.shape[-1] < p.large.shape[-1]:  # what a denoiser sees is not only detail
        sets.append((p.native[~p.held_out], p.known_native[~p.held_out]))

    def loss() -> Tensor:
        training, known = sets[run.step % len(sets)]
        drawn = autoencoder.crops(training, known, settings.crop, settings.autoencoder_batch, run.generator)
        x, area = (each.to(run.device) for each in drawn)
        return autoencoder.loss(vae, x, area, settings.kl, run.generator)

    while run.step < settings.autoencoder_steps:
        value = run.descend(
            settings.autoencoder_rate * autoencoder.one_cycle(run.step, settings.autoencoder_steps), loss
        )
        psnr = None
        if run.step % settings.sample_every == 0:
            psnr = autoencoder.psnr(run.models.vae_average, p.large[p.held_out], p.known_large[p.held_out], run.device)
        run.tell(value, psnr, last=run.step == settings.autoencoder_steps)


def _train_denoiser(run: Run, enough: Callable[[], bool]) -> None:
    settings, unet, alpha_bar = run.settings, run.models.unet, run.models.alpha_bar
    further = settings.further if settings.recipe == "ambient" else 0.0
    kept = _latents(run)
    training, held_out = (kept[part] * run.models.scale for part in ("training", "held_out"))
    which = run.which
    of_views = None if which is None else which[torch.from_numpy(~run.pictures.held_out)].repeat_interleave(VIEWS)
    of_held_out = None if which is None else which[torch.from_numpy(run.pictures.held_out)]

    def loss() -> Tensor:
        rows = torch.randint(len(training), (settings.denoiser_batch,), generator=run.generator)
        z, known = (each[rows].to(run.device) for each in (training, kept["known"]))
        told = None if of_views is None else of_views[rows]
        return denoiser.loss(unet, z, known, alpha_bar, run.generator, further=further, which=told)

    while run.step < settings.denoiser_steps:
        value = run.descend(settings.denoiser_rate * min(1.0, (run.step + 1) / _WARM_UP), loss)
        found = None
        if run.step % settings.sample_every == 0:
            found = denoiser.held_out_loss(
                run.models.unet_average, held_out, kept["known_held_out"], alpha_bar, run.device, of_held_out
            )
            _preview(run)
        last = run.step == settings.denoiser_steps or enough()
        run.tell(value, found, last=last)
        if last:
            return


def _latents(run: Run) -> dict[str, Tensor]:
    """Latents, not scaled, of the training pictures (VIEWS of each) and of those held out, and which cells are known.

    They are kept in a file once made.
    """
    path = run.folder / checkpoints.LATENTS
    key = hashlib.sha256(run.fingerprint.encode())
    for values in run.models.vae_average.state_dict().values():
        key.update(values.cpu().numpy().tobytes())
    kept = checkpoints.load(path)
    if kept is None or kept["key"] != key.hexdigest():
        training, known = _encoded(run, held_out=False)
        held_out, known_held_out = _encoded(run, held_out=True)
        latents = {"training": training, "known": known, "held_out": held_out, "known_held_out": known_held_out}
        kept = {"key": key.hexdigest(), "latents": latents}
        checkpoints.save(path, kept)
    made: dict[str, Tensor] = kept["latents"]
    return made


def _encoded(run: Run, *, held_out: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(run.settings.seed)
    made, known = [], []
    for row in np.flatnonzero(run.pictures.held_out == held_out):
        if held_out:
            views, areas = run.pictures.native[row][None], run.pictures.known_native[row][None]
        else:
            views, areas = denoiser.views(run.pictures, int(row), generator)
        made.append(denoiser.encode(run.models.vae_average, views, run.device))
        known.append(denoiser.known_cells(areas, made[-1].shape[-1]))
        run.tell_stage("latents")
    return torch.cat(made), torch.cat(known)


def _unit_scale(latents: dict[str, Tensor]) -> float:
    """What makes the variance of what is known one."""
    z, known = latents["training"], latents["known"]
    return 1 / float(z[known.expand_as(z)].std())


def _preview(run: Run) -> None:
    z = denoiser.draw(run.models.unet_average, run.models.alpha_bar, _PREVIEWS, _PREVIEW_STEPS, run.device)
    png = BytesIO()
    denoiser.grid(denoiser.decode(run.models.vae_average, z, run.models.scale)).save(png, format="PNG")
    checkpoints.write(run.folder / checkpoints.SAMPLES, png.getvalue())
