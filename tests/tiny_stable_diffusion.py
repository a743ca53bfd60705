"""A tiny Stable Diffusion 1.x with random weights, as it was published: PNDM, float16."""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_prior import tiny_vae
from transformers import CLIPTextConfig, CLIPTextModel


def write_tiny_stable_diffusion(folder: Path) -> None:
    """A conditional prior: 16 px images, 4 x 8 x 8 latents. Always the same weights."""
    torch.manual_seed(1)
    tiny_vae(scaling_factor=0.18215).half().save_pretrained(folder / "vae")
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=12,
    )
    unet.half().save_pretrained(folder / "unet")
    _text(folder)
    scheduler = {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.7.0.dev0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    }
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


def _text(folder: Path) -> None:
    """text_encoder/ and tokenizer/, whose vocabulary is the lower-case letters, one pair and CLIP's two marks."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: k for k, token in enumerate(tokens)}
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=12,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=vocabulary["<|startoftext|>"],
            eos_token_id=vocabulary["<|endoftext|>"],
        )
    )
    text.half().save_pretrained(folder / "text_encoder")
    weights = load_file(folder / "text_encoder" / "model.safetensors")
    published = {f"text_model.{name.removeprefix('text_model.')}": values for name, values in weights.items()}
    published["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(published, folder / "text_encoder" / "model.safetensors", metadata={"format": "pt"})

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "vocab.json").write_text(json.dumps(vocabulary))
    (tokenizer / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    marks["pad_token"] = "<|endoftext|>"
    (tokenizer / "special_tokens_map.json").write_text(json.dumps(marks))
    config = marks | {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(config))
