"""The true architectures with random weights: they cost what the published models cost, and draw noise."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

from worker.priors.arithmetic import PLAIN, Arithmetic
from worker.priors.autoencoders import Autoencoder
from worker.priors.diffusers import DiffusersPrior, levels_of
from worker.priors.single import parts_of
from worker.priors.text import Embedded

_TOKENS = 77


def prior(name: str, device: torch.device | str, arithmetic: Arithmetic = PLAIN) -> DiffusersPrior:
    """One of `worker.priors.single.ARCHITECTURES`. On the device `meta` it has shapes only, and takes no memory."""
    parts = parts_of(name)
    alpha_bar, prediction = levels_of(parts["scheduler"], Path(name))
    vae, unet = (
        _made(kind, parts[part], device, arithmetic)
        for kind, part in ((AutoencoderKL, "vae"), (UNet2DConditionModel, "unet"))
    )
    text: Any = _Wordless(unet.config)
    return DiffusersPrior(vae, unet, alpha_bar, text, prediction=prediction, arithmetic=arithmetic)


def taesd(device: torch.device | str, arithmetic: Arithmetic = PLAIN) -> Autoencoder:
    """TAESD: its numbers are the library's defaults."""
    return Autoencoder(_made(AutoencoderTiny, {}, device, arithmetic), arithmetic)


def _made(kind: Any, config: dict[str, Any], device: torch.device | str, arithmetic: Arithmetic) -> Any:
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        made = kind.from_config(config).requires_grad_(False).eval()
    return arithmetic.prepare(made, device)


class _Wordless:
    """Instead of a text encoder: zeros in the shape of what it makes of a prompt."""

    def __init__(self, unet: Any) -> None:
        self._width = unet.cross_attention_dim
        is_xl = unet.addition_embed_type == "text_time"
        self._pooled = unet.projection_class_embeddings_input_dim - 6 * unet.addition_time_embed_dim if is_xl else None

    def embed(self, prompts: list[str]) -> list[Embedded]:
        pooled = None if self._pooled is None else torch.zeros(1, self._pooled)
        return [Embedded(torch.zeros(1, _TOKENS, self._width), pooled) for _ in prompts]
