"""A prior with random weights, in the format such folders have on disk: its pictures are noise, made in no time."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DModel


def tiny_vae(**config: Any) -> AutoencoderKL:
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
    }
    return AutoencoderKL(**blocks | config)


def write_tiny_prior(folder: Path, native_size: int = 16, halvings: int = 1) -> None:
    """An unconditional prior, trained as it says on images of `native_size` px, whose sides a latent has halved so
    often. Always the same weights."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=native_size // 2**halvings,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
    )
    deep = {
        "down_block_types": ("DownEncoderBlock2D",) * (halvings + 1),
        "up_block_types": ("UpDecoderBlock2D",) * (halvings + 1),
        "block_out_channels": (8,) * (halvings + 1),
    }
    tiny_vae(scaling_factor=0.5, mid_block_add_attention=False, **deep).save_pretrained(folder / "vae")
    unet.save_pretrained(folder / "unet")
    (folder / "scheduler").mkdir()
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
