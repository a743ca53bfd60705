"""The models of a training: made anew, or those of an installed prior."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from worker.priors.diffusers import BadPrior, autoencoder_part, levels_of, load
from worker.priors.files import Files
from worker.training import adapters, words
from worker.training.errors import CannotTrain

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "epsilon",
}
"""The noise of Stable Diffusion 1.x."""

_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (16, 32, 64),
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
}
_UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
}
_CHANNELS = ((64, (32, 64, 96)), (512, (64, 128, 192)))
"""The denoiser's channels for sides up to so many pixels: a small picture needs, and bears, a small one."""


@dataclass(frozen=True, slots=True)
class Models:
    """An autoencoder and a denoiser with the moving averages of their weights, which are what is installed.

    Autoencoders have no shift. `schedule` is the configuration of the noise.
    """

    vae: Any
    vae_average: Any
    unet: Any
    unet_average: Any
    schedule: dict[str, Any]

    @property
    def alpha_bar(self) -> Tensor:
        """(T,) float32, falling."""
        return levels_of(dict(self.schedule), Path("scheduler"))[0]

    @property
    def scale(self) -> float:
        """What makes the variance of latents one."""
        return float(self.vae_average.config.scaling_factor)

    def keep_scale(self, scale: float) -> None:
        """Set `scale`."""
        for vae in (self.vae, self.vae_average):
            vae.register_to_config(scaling_factor=scale)

    def configs(self) -> dict[str, Any]:
        """What `restored` needs beside the weights, as plain values."""
        configs = {
            "vae": dict(self.vae.config),
            "unet": dict(self.unet.config),
            "conditional": isinstance(self.unet, adapters.Conditional),
            "schedule": self.schedule,
        }
        plain: dict[str, Any] = json.loads(json.dumps(configs))
        return plain


def fresh(large_side: int, native_side: int, seed: int) -> Models:
    """Models with random weights for squares of these sides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(**_VAE, sample_size=large_side)
        channels = next(channels for side, channels in _CHANNELS if native_side <= side)
        cells = native_side // 2 ** (len(_VAE["block_out_channels"]) - 1)
        unet = UNet2DModel(**_UNET, block_out_channels=channels, sample_size=cells)
    return _doubled(vae, unet, SCHEDULE)


def continued(folder: Path, native_side: int) -> Models:
    """The models of an unconditional prior, to be trained further. Raises CannotTrain."""
    _check(folder, native_side, UNet2DModel)
    unet = Files(folder).model(UNet2DModel, "unet").requires_grad_(True)
    return _of_prior(folder, native_side, unet)


def adapted(folder: Path, native_side: int, rank: int, seed: int) -> Models:
    """The models of a Stable Diffusion prior, of which only adapters can be trained. Raises CannotTrain."""
    _check(folder, native_side, UNet2DConditionModel)
    return _of_prior(folder, native_side, adapters.adapted(folder, rank, seed), frozen=True)


def worded(folder: Path, native_side: int, combinations: Sequence[words.Classes]) -> Models:
    """The models of a Stable Diffusion prior, of which only new words can be trained. Raises CannotTrain."""
    _check(folder, native_side, UNet2DConditionModel)
    return _of_prior(folder, native_side, words.taught(folder, combinations), frozen=True)


def native_side(folder: Path) -> int:
    """The native size of an installed prior. Raises CannotTrain if it is none."""
    try:
        vae, unet = (json.loads((folder / part / "config.json").read_text("utf-8")) for part in ("vae", "unet"))
        return int(unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotTrain(f"The prior to begin with cannot be used: {error}") from error


def restored(configs: dict[str, Any]) -> Models:
    """Models of these configurations, whose weights are yet to be loaded."""
    return _doubled(*empty(configs), configs["schedule"])


def empty(configs: dict[str, Any]) -> tuple[Any, Any]:
    """An autoencoder and a denoiser of these configurations, whose weights are yet to be loaded."""
    unet_class = UNet2DConditionModel if configs["conditional"] else UNet2DModel
    return AutoencoderKL.from_config(_whole(configs["vae"])), unet_class.from_config(_whole(configs["unet"]))


def _whole(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration all of which counts: the library would give back its defaults for what was left to them once,
    also where it was set since, as an autoencoder's scale is. Without the path of the prior that was begun with."""
    return {name: value for name, value in config.items() if name not in ("_use_default_values", "_name_or_path")}


def _check(folder: Path, native_side: int, unet_class: Any) -> None:
    try:
        prior = load(folder)
    except BadPrior as error:
        raise CannotTrain(f"The prior to begin with cannot be used: {error}") from error
    found = json.loads((folder / "unet" / "config.json").read_text("utf-8"))["_class_name"]
    if found != unet_class.__name__:
        raise CannotTrain(f"This recipe trains priors with a {unet_class.__name__}; that of {folder} is a {found}.")
    files = Files(folder)
    config, autoencoder = files.config("unet"), files.config(autoencoder_part(files))
    if config.get("addition_embed_type"):
        raise CannotTrain(f"{folder} is a Stable Diffusion XL, which no recipe trains; 1.x and 2.x can be adapted.")
    if autoencoder.get("_class_name") != "AutoencoderKL":
        raise CannotTrain(f"{folder}: a prior with a {autoencoder.get('_class_name')} cannot be trained further.")
    if unet_class is UNet2DModel and files.config("scheduler").get("prediction_type", "epsilon") != "epsilon":
        raise CannotTrain(f"{folder}: an unconditional prior that does not predict noise cannot be trained further.")
    if native_side % prior.multiple:
        raise CannotTrain(
            f"The denoiser's side of {native_side} px is no multiple of the {prior.multiple} that {folder} needs."
        )


def _of_prior(folder: Path, native_side: int, unet: Any, *, frozen: bool = False) -> Models:
    vae = Files(folder).model(AutoencoderKL, "vae").requires_grad_(not frozen)
    if vae.config.shift_factor:
        raise CannotTrain(f"{folder}: a prior whose latents are shifted cannot be trained further.")
    unet.register_to_config(sample_size=native_side // 2 ** (len(vae.config.block_out_channels) - 1))
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    return _doubled(vae, unet, schedule)


def _doubled(vae: Any, unet: Any, schedule: dict[str, Any]) -> Models:
    vae, unet = vae.train(), unet.train()
    return Models(vae, _average(vae), unet, _average(unet), schedule)


def _average(model: Any) -> Any:
    """A copy that shares what is frozen."""
    frozen = {id(values): values for values in model.parameters() if not values.requires_grad}
    return copy.deepcopy(model, frozen).requires_grad_(False).eval()


def trained(model: nn.Module) -> list[str]:
    """Names of the weights that a training changes."""
    return [name for name, values in model.named_parameters() if values.requires_grad]


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, keep: float, step: int) -> None:
    """Move an average towards a model after its `step`-th step (from 0); early steps, which are far off, keep less."""
    keep = min(keep, (1 + step) / (10 + step))
    for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
        if theirs.requires_grad:
            ours.lerp_(theirs, 1 - keep)
