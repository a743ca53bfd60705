"""Latent priors from folders in the format of the diffusers library.

    vae/         AutoencoderKL; of plain latent diffusion also vqvae/, a VQModel
    unet/        UNet2DModel, or UNet2DConditionModel with the folders below (Stable Diffusion 1.x, 2.x and XL)
    scheduler/   scheduler_config.json, read for its betas and for what the denoiser predicts
    text_encoder/, tokenizer/, and of XL text_encoder_2/, tokenizer_2/
    card.json    what a training measured, with the hashes of the weights it did so with; may be missing
    checkpoint.safetensors
                 all weights in one file, as such models are handed around; the folders then hold configurations only

Weights are read from safetensors only, and nothing is ever fetched.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel, UNet2DModel
from torch import Tensor

from worker.priors import autoencoders
from worker.priors.arithmetic import PLAIN, Arithmetic
from worker.priors.autoencoders import Autoencoder
from worker.priors.files import CARD, BadPrior, Files, check_card
from worker.priors.text import BadPrompt, Embedded, Text

__all__ = ["BUILTIN", "CARD", "BadPrior", "BadPrompt", "DiffusersPrior", "alpha_bar_of", "check_fit", "load"]

BUILTIN = Path(__file__).parent / "builtin"
"""The prior that comes with the program."""

UNETS = {"UNet2DModel": UNet2DModel, "UNet2DConditionModel": UNet2DConditionModel}
PREDICTIONS = ("epsilon", "v_prediction")

LEAST_SIGNAL = 2.0**-24
"""What alpha_bar ends with, at most, where a schedule ends without any signal (Lin et al., 2305.08891): a clean
estimate is divided by its root."""

_MOST_PROMPTS = 64


class DiffusersPrior:
    """A `worker.psld.prior.LatentPrior` made of diffusers modules, which compute as `arithmetic` says.

    It predicts under the empty prompt; `told` gives one that predicts under others. What is the same for every row is
    kept once.
    """

    def __init__(
        self,
        vae: Any,
        unet: Any,
        alpha_bar: Tensor,
        text: Text | None = None,
        *,
        prediction: str = "epsilon",
        arithmetic: Arithmetic = PLAIN,
    ) -> None:
        self.alpha_bar = alpha_bar
        self.device = torch.device(unet.device)
        self._vae = vae
        self._unet = unet
        self._arithmetic = arithmetic
        self._autoencoder = Autoencoder(vae, arithmetic)
        self._levels = alpha_bar.to(self.device) if prediction == "v_prediction" else None
        self._text = text
        self._known: dict[str, Embedded] = {}
        self._conditions: tuple[Embedded, ...] = () if text is None else (self._embedded([""])[0],)
        self._scale = 1.0
        self.multiple = self._autoencoder.factor * 2 ** (len(unet.config.block_out_channels) - 1)
        self.native_size = int(unet.config.sample_size) * self._autoencoder.factor

    def told(self, prompt: str, negative: str, scale: float) -> "DiffusersPrior":
        """The same prior under a prompt (Ho and Salimans, Classifier-Free Diffusion Guidance, 2022).

        ``scale`` weighs what ``prompt`` predicts beyond ``negative``; with 1, and where both are the same, the second
        is left out. The text encoder is loaded for prompts that are not known yet, and let go of. Raises BadPrompt.
        """
        if self._text is None:
            raise BadPrompt("this prior has no text encoder, and no prompt can be read")
        both = scale != 1 and prompt != negative
        made = copy.copy(self)
        made._conditions = tuple(self._embedded([negative, prompt] if both else [prompt]))
        made._scale = scale if both else 1.0
        return made

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        e = self._predicted(z, t)
        if self._levels is None:
            return e
        ab = self._levels[t][:, None, None, None]
        return ab.sqrt() * e + (1 - ab).sqrt() * z  # e was v = sqrt(ab) eps - sqrt(1 - ab) z0

    def encode(self, x: Tensor) -> Tensor:
        return self._autoencoder.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return self._autoencoder.decode(z)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"the sides of a canvas must be multiples of {self.multiple}, not {height} x {width}")
        factor = self._autoencoder.factor
        return self._autoencoder.channels, height // factor, width // factor

    def _predicted(self, z: Tensor, t: Tensor) -> Tensor:
        """What the denoiser says, under all that it is told."""
        count = len(self._conditions)
        with self._arithmetic.at(z.device):
            if not count:
                e: Tensor = self._unet(z, t).sample
                return e.float()
            found = self._unet(z.repeat(count, 1, 1, 1), t.repeat(count), **self._conditioning(z)).sample
        e, *guided = found.float().chunk(count)
        return e + self._scale * (guided[0] - e) if guided else e

    def _conditioning(self, z: Tensor) -> dict[str, Any]:
        rows = len(z)
        tokens = torch.cat([each.tokens.expand(rows, -1, -1) for each in self._conditions])
        pooled = [each.pooled.expand(rows, -1) for each in self._conditions if each.pooled is not None]
        if not pooled:
            return {"encoder_hidden_states": tokens}
        # XL is told how large the picture was and where it was cut: whole, and no smaller than it was trained on.
        sides = [max(side * self._autoencoder.factor, self.native_size) for side in z.shape[-2:]]
        times = torch.tensor([[*sides, 0, 0, *sides]], dtype=z.dtype, device=z.device).expand(len(tokens), -1)
        added = {"text_embeds": torch.cat(pooled), "time_ids": times}
        return {"encoder_hidden_states": tokens, "added_cond_kwargs": added}

    def _embedded(self, prompts: list[str]) -> list[Embedded]:
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if new and self._text is not None:
            for prompt, made in zip(new, self._text.embed(new), strict=True):
                self._known[prompt] = made.to(self.device)
        found = [self._known[prompt] for prompt in prompts]
        while len(self._known) > _MOST_PROMPTS:
            del self._known[next(iter(self._known))]
        return found


def load(
    folder: Path,
    device: torch.device | str = "cpu",
    *,
    alpha_bar: Tensor | None = None,
    arithmetic: Arithmetic = PLAIN,
) -> DiffusersPrior:
    """Load the prior of a folder, frozen; what it is stored in does not matter.

    A conditional U-Net is given the empty prompt, once; its text encoder is not kept. Where ``alpha_bar`` (T,) is
    given, scheduler/ is not read. Raises BadPrior.
    """
    files = Files(folder)
    check_card(folder)
    levels, prediction = (alpha_bar, "epsilon") if alpha_bar is not None else alpha_bar_of(files)
    kind = unet_class(files)
    part = autoencoder_part(files)
    vae = autoencoders.read(files, part)
    unet = files.model(UNETS[kind], "unet")
    check_fit(files, part, vae.config, unet.config)
    text = Text(files, unet.config) if kind == "UNet2DConditionModel" else None
    vae, unet = (arithmetic.prepare(network, device) for network in (vae, unet))
    return DiffusersPrior(vae, unet, levels, text, prediction=prediction, arithmetic=arithmetic)


def autoencoder_part(files: Files) -> str:
    """The name of the folder of the autoencoder."""
    return next((part for part in autoencoders.FOLDERS if files.has(part)), autoencoders.FOLDERS[0])


def unet_class(files: Files) -> str:
    """The class of the denoiser. Raises BadPrior for one that is no prior's."""
    kind = files.config("unet").get("_class_name")
    if kind not in UNETS:
        raise BadPrior(f"{files.path('unet')}: the class must be one of {', '.join(UNETS)}, not {kind}")
    return str(kind)


def alpha_bar_of(files: Files) -> tuple[Tensor, str]:
    """The levels of noise, (T,) float32, and what the denoiser predicts. Raises BadPrior."""
    return levels_of(files.config("scheduler"), files.path("scheduler"))


def levels_of(config: dict[str, Any], path: Path) -> tuple[Tensor, str]:
    """The same of a scheduler's configuration, which comes from ``path``."""
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise BadPrior(f"{path}: prediction_type must be {' or '.join(PREDICTIONS)}, not {prediction}")
    without_signal = bool(config.get("rescale_betas_zero_snr"))
    if without_signal and prediction == "epsilon":
        raise BadPrior(f"{path}: rescale_betas_zero_snr needs v_prediction, as no noise can be told from noise")
    try:
        alpha_bar: Tensor = DDIMScheduler.from_config(config).alphas_cumprod  # type: ignore[no-untyped-call] # not annotated
    except (NotImplementedError, TypeError, ValueError) as error:
        raise BadPrior(f"{path} gives no noise schedule: {error}") from error
    if without_signal:
        alpha_bar[-1] = min(LEAST_SIGNAL, float(alpha_bar[-2]) / 2)
    if not (alpha_bar.diff() < 0).all() or not 0 < float(alpha_bar[-1]) < float(alpha_bar[0]) < 1:
        raise BadPrior(f"{path}: its betas must all lie between 0 and 1")
    return alpha_bar, prediction


def check_fit(files: Files, part: str, vae: Any, unet: Any) -> None:
    """Raises BadPrior where an autoencoder and a denoiser, by their configurations, do not belong together."""
    where = files.path("unet")
    if not vae.latent_channels == unet.in_channels == unet.out_channels:
        hint = " (a model that was made for inpainting has 9 channels in; its base model is wanted)"
        raise BadPrior(
            f"{where} has {unet.in_channels} channels in and {unet.out_channels} out, "
            f"{files.path(part)} has {vae.latent_channels} latent channels: all must be equal"
            + hint
            * (unet.in_channels == 9)
        )
    if not isinstance(unet.sample_size, int):
        raise BadPrior(f"{where}: sample_size must be a number, not {unet.sample_size}")
    for field, known in (("addition_embed_type", (None, "text_time")), ("class_embed_type", (None,))):
        if getattr(unet, field, None) not in known:
            raise BadPrior(f"{where}: {field} {getattr(unet, field)} is not supported")
