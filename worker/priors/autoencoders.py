"""Autoencoders: from pictures to the latents a denoiser works on, and back."""

from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from torch import Tensor

from worker.priors.arithmetic import PLAIN, Arithmetic
from worker.priors.files import BadPrior, Files

KINDS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny, "VQModel": VQModel}
FOLDERS = ("vae", "vqvae")
"""Where a prior keeps its own."""


class Autoencoder:
    """One autoencoder of the diffusers library, whatever its kind; latents are scaled as its denoiser knows them."""

    def __init__(self, module: Any, arithmetic: Arithmetic = PLAIN) -> None:
        config = module.config
        self._module = module
        self._arithmetic = arithmetic
        self._scale = float(config.scaling_factor or 1.0)
        self._shift = float(getattr(config, "shift_factor", None) or 0.0)
        self.channels = int(config.latent_channels)
        self.factor = factor_of(dict(config))

    def encode(self, x: Tensor) -> Tensor:
        with self._arithmetic.at(x.device):
            found = self._module.encode(x)
            z: Tensor = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return (z.float() - self._shift) * self._scale

    def decode(self, z: Tensor) -> Tensor:
        with self._arithmetic.at(z.device):
            x: Tensor = self._module.decode(z / self._scale + self._shift).sample
        return x.float()


def factor_of(config: dict[str, Any]) -> int:
    """By how much an autoencoder of a configuration makes the sides of a picture smaller."""
    if config.get("_class_name") == "AutoencoderTiny" or "encoder_block_out_channels" in config:
        return int(config.get("upsampling_scaling_factor", 2) ** (len(config["encoder_block_out_channels"]) - 1))
    return int(2 ** (len(config["block_out_channels"]) - 1))


def read(files: Files, part: str, *, float32: bool = True) -> Any:
    """The module of a part, checked for what no autoencoder here may be. Raises BadPrior."""
    where, config = files.path(part), files.config(part)
    kind = config.get("_class_name", "AutoencoderKL")
    if kind not in KINDS:
        raise BadPrior(f"{where}: the class must be one of {', '.join(KINDS)}, not {kind}")
    if config.get("in_channels", 3) != 3:
        raise BadPrior(f"{where}: in_channels must be 3, not {config['in_channels']}")
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        raise BadPrior(f"{where}: latents_mean and latents_std are not supported")
    return files.model(KINDS[kind], part, float32=float32)
