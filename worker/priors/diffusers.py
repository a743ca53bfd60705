"""Latent priors from folders in the format of the diffusers library.

    vae/         AutoencoderKL
    unet/        UNet2DModel, or UNet2DConditionModel with the two folders below (Stable Diffusion 1.x)
    scheduler/   scheduler_config.json, read for its betas
    text_encoder/, tokenizer/
    card.json    what a training measured, with the hashes of the weights it did so with; may be missing

Weights are read from safetensors only, and nothing is ever fetched.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet2DModel
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

BUILTIN = Path(__file__).parent / "builtin"
"""The prior that comes with the program."""

CARD = "card.json"

UNETS = {"UNet2DModel": UNet2DModel, "UNet2DConditionModel": UNet2DConditionModel}


class BadPrior(ValueError):
    """A folder cannot be used as a prior; the message names the file and what is wrong with it."""


class DiffusersPrior:
    """A `worker.psld.prior.LatentPrior` made of diffusers modules, in float32.

    ``prompt`` (1, tokens, width) is what a conditional U-Net attends to, the same for every row.
    """

    def __init__(self, vae: Any, unet: Any, alpha_bar: Tensor, prompt: Tensor | None) -> None:
        self.alpha_bar = alpha_bar
        self.device = torch.device(unet.device)
        self._vae = vae
        self._unet = unet
        self._prompt = prompt
        self._scale = float(vae.config.scaling_factor)
        self._shift = float(vae.config.shift_factor or 0.0)
        self._channels = int(vae.config.latent_channels)
        self._factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.multiple = self._factor * 2 ** (len(unet.config.block_out_channels) - 1)
        self.native_size = int(unet.config.sample_size) * self._factor

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        if self._prompt is None:
            e: Tensor = self._unet(z, t).sample
        else:
            e = self._unet(z, t, encoder_hidden_states=self._prompt.expand(len(z), -1, -1)).sample
        return e

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self._vae.encode(x).latent_dist.mode()
        return (z - self._shift) * self._scale

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self._vae.decode(z / self._scale + self._shift).sample
        return x

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"the sides of a canvas must be multiples of {self.multiple}, not {height} x {width}")
        return self._channels, height // self._factor, width // self._factor


def load(folder: Path, device: torch.device | str = "cpu", *, alpha_bar: Tensor | None = None) -> DiffusersPrior:
    """Load the prior of a folder in float32 (whatever it is stored in), frozen.

    A conditional U-Net is given the empty prompt, once; its text encoder is not kept. Where ``alpha_bar`` (T,) is
    given, scheduler/ is not read. Raises BadPrior.
    """
    if not folder.is_dir():
        raise BadPrior(f"{folder} is not a folder")
    _check_card(folder)
    if alpha_bar is None:
        alpha_bar = _alpha_bar(folder / "scheduler" / "scheduler_config.json")
    unet_class = _config(folder / "unet" / "config.json").get("_class_name")
    if unet_class not in UNETS:
        raise BadPrior(
            f"{folder / 'unet' / 'config.json'}: the class must be one of {', '.join(UNETS)}, not {unet_class}"
        )
    vae = _model(AutoencoderKL, folder / "vae", "diffusion_pytorch_model.safetensors")
    unet = _model(UNETS[unet_class], folder / "unet", "diffusion_pytorch_model.safetensors")
    _check_fit(folder, vae, unet)
    prompt = empty_prompt(folder, unet).to(device) if unet_class == "UNet2DConditionModel" else None
    return DiffusersPrior(vae.to(device), unet.to(device), alpha_bar, prompt)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadPrior(f"{path} is missing") from error
    except ValueError as error:
        raise BadPrior(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise BadPrior(f"{path} must hold a JSON object")
    return config


def _alpha_bar(path: Path) -> Tensor:
    config = _config(path)
    prediction = config.get("prediction_type", "epsilon")
    if prediction != "epsilon":
        raise BadPrior(f"{path}: prediction_type must be epsilon, not {prediction}")
    try:
        alpha_bar: Tensor = DDIMScheduler.from_config(config).alphas_cumprod  # type: ignore[no-untyped-call] # not annotated
    except (NotImplementedError, TypeError, ValueError) as error:
        raise BadPrior(f"{path} gives no noise schedule: {error}") from error
    if not (alpha_bar.diff() < 0).all() or not 0 < float(alpha_bar[-1]) < float(alpha_bar[0]) < 1:
        raise BadPrior(f"{path}: its betas must all lie between 0 and 1")
    return alpha_bar


def _model(kind: Any, folder: Path, weights: str) -> Any:
    _config(folder / "config.json")
    path = folder / weights
    if not path.is_file():
        raise BadPrior(f"{path} is missing: weights are read from safetensors files only")
    try:
        model, found = kind.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise BadPrior(f"{path} does not fit the config.json beside it: {error}") from error
    if found["missing_keys"]:  # the library would go on with random weights in their place
        raise BadPrior(f"{path} lacks the weights {', '.join(sorted(found['missing_keys'])[:3])}")
    for name, values in model.state_dict().items():
        if not values.isfinite().all():
            raise BadPrior(f"{path}: the weights {name} are not finite")
    return model.float().requires_grad_(False).eval()


def _check_card(folder: Path) -> None:
    """What a card says is of no use, and may mislead, where the weights are others."""
    if not (folder / CARD).is_file():
        return
    hashes = _config(folder / CARD).get("weights")
    if not isinstance(hashes, dict):
        raise BadPrior(f"{folder / CARD} does not say of which weights it is")
    weights = {path.relative_to(folder).as_posix(): path for path in folder.glob("*/*.safetensors")}
    for name in sorted(hashes.keys() | weights.keys()):
        if name not in weights:
            raise BadPrior(f"{folder / CARD} is the card of other weights: {name} is missing")
        with weights[name].open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != hashes.get(name):
                raise BadPrior(f"{folder / CARD} is the card of other weights than {name}")


def _check_fit(folder: Path, vae: Any, unet: Any) -> None:
    vae_config, unet_config = folder / "vae" / "config.json", folder / "unet" / "config.json"
    channels = vae.config.latent_channels
    if not channels == unet.config.in_channels == unet.config.out_channels:
        raise BadPrior(
            f"{unet_config} has {unet.config.in_channels} channels in and {unet.config.out_channels} out, "
            f"{vae_config} has {channels} latent channels: all must be equal"
        )
    if vae.config.in_channels != 3:
        raise BadPrior(f"{vae_config}: in_channels must be 3, not {vae.config.in_channels}")
    if vae.config.latents_mean is not None or vae.config.latents_std is not None:
        raise BadPrior(f"{vae_config}: latents_mean and latents_std are not supported")
    if not isinstance(unet.config.sample_size, int):
        raise BadPrior(f"{unet_config}: sample_size must be a number, not {unet.config.sample_size}")


@torch.no_grad()
def empty_prompt(folder: Path, unet: Any) -> Tensor:
    """The last hidden state of the empty prompt, (1, tokens, width)."""
    text_encoder = _model(CLIPTextModel, folder / "text_encoder", "model.safetensors")
    for name in ("vocab.json", "merges.txt"):
        if not (folder / "tokenizer" / name).is_file():
            raise BadPrior(f"{folder / 'tokenizer' / name} is missing")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
    except Exception as error:  # the tokenizers library raises nothing more particular
        raise BadPrior(f"{folder / 'tokenizer'} cannot be read: {error}") from error
    length = text_encoder.config.max_position_embeddings
    tokens = tokenizer("", padding="max_length", max_length=length, return_tensors="pt").input_ids
    prompt: Tensor = text_encoder(tokens).last_hidden_state
    if prompt.shape[-1] != unet.config.cross_attention_dim:
        raise BadPrior(
            f"{folder / 'text_encoder' / 'config.json'} makes vectors of {prompt.shape[-1]}, "
            f"but cross_attention_dim of {folder / 'unet' / 'config.json'} is {unet.config.cross_attention_dim}"
        )
    return prompt
