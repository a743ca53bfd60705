"""Adapters on a large prior's denoiser (LoRA, Hu et al., 2106.09685); everything else of it stays as it is."""

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor, nn

from worker.priors.diffusers import empty_prompt

_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
"""What of every attention is adapted."""


class Prompted(nn.Module):
    """A conditional U-Net that is called as an unconditional one: it always attends to `prompt` (1, tokens, width)."""

    prompt: Tensor
    unet: Any

    def __init__(self, unet: Any, prompt: Tensor) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("prompt", prompt, persistent=False)

    @property
    def config(self) -> Any:
        return self.unet.config

    def register_to_config(self, **changes: Any) -> None:
        self.unet.register_to_config(**changes)

    def forward(self, z: Tensor, t: Tensor) -> Any:
        return self.unet(z, t, encoder_hidden_states=self.prompt.expand(len(z), -1, -1))


def adapted(folder: Path, rank: int, seed: int) -> Prompted:
    """The denoiser of a Stable Diffusion folder with adapters that change nothing yet; only they can be trained."""
    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"), local_files_only=True).float()
    prompt = empty_prompt(folder, unet)
    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=_TARGETS, init_lora_weights="gaussian"))
    return Prompted(unet, prompt)


def merged(model: Any) -> Any:
    """A copy of a denoiser in which adapters, where it has any, have become part of its weights."""
    model = copy.deepcopy(model)
    if isinstance(model, Prompted):
        model.unet.fuse_lora()
        model.unet.unload_lora()
    return model


def bare(model: Any) -> Any:
    """The denoiser as it is stored."""
    return model.unet if isinstance(model, Prompted) else model
