"""Adapters on a large prior's denoiser (LoRA, Hu et al., 2106.09685); everything else of it stays as it is."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor, nn

from worker.priors.diffusers import alpha_bar_of
from worker.priors.files import Files
from worker.priors.text import Text

_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""What of every attention is adapted."""


class Predicted(NamedTuple):
    """What a denoiser says, in the library's form."""

    sample: Tensor


class Conditional(nn.Module):
    """A conditional U-Net that is called as an unconditional one. What it says is the noise, also where the U-Net
    predicts v: then with the `levels` (T,) of the noise."""

    levels: Tensor | None
    unet: Any

    def __init__(self, unet: Any, levels: Tensor | None) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("levels", levels, persistent=False)

    @property
    def config(self) -> Any:
        return self.unet.config

    def register_to_config(self, **changes: Any) -> None:
        self.unet.register_to_config(**changes)

    def noise(self, z: Tensor, t: Tensor, said: Tensor) -> Predicted:
        """What is predicted in `z` (B, C, h, w) under prompts (B, tokens, width)."""
        found: Tensor = self.unet(z, t, encoder_hidden_states=said).sample
        if self.levels is None:
            return Predicted(found)
        ab = self.levels[t][:, None, None, None]
        return Predicted(ab.sqrt() * found + (1 - ab).sqrt() * z)


class Prompted(Conditional):
    """It always attends to `prompt` (1, tokens, width)."""

    prompt: Tensor

    def __init__(self, unet: Any, prompt: Tensor, levels: Tensor | None) -> None:
        super().__init__(unet, levels)
        self.register_buffer("prompt", prompt, persistent=False)

    def forward(self, z: Tensor, t: Tensor) -> Predicted:
        return self.noise(z, t, self.prompt.expand(len(z), -1, -1))


def adapted(folder: Path, rank: int, seed: int) -> Prompted:
    """The denoiser of a Stable Diffusion folder with adapters that change nothing yet; only they can be trained."""
    unet = Files(folder).model(UNet2DConditionModel, "unet")
    files = Files(folder)
    (prompt,) = Text(files, unet.config).embed([""])
    levels, prediction = alpha_bar_of(files)
    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=_TARGETS, init_lora_weights="gaussian"))
    return Prompted(unet, prompt.tokens, levels if prediction == "v_prediction" else None)


def merged(model: Any) -> Any:
    """A copy of a denoiser in which adapters, where it has any, have become part of its weights."""
    model = copy.deepcopy(model)
    if isinstance(model, Prompted):
        model.unet.fuse_lora()
        model.unet.unload_lora()
    return model


def bare(model: Any) -> Any:
    """The denoiser as it is stored."""
    return model.unet if isinstance(model, Conditional) else model
