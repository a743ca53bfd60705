"""Tiny Stable Diffusions with random weights, in float16, as the large ones were published."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_prior import tiny_vae
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

START, END = "<|startoftext|>", "<|endoftext|>"
_LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
TOKENS = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "ab</w>", START, END, "!", "!</w>"]
"""The vocabulary: the lower-case letters, one pair, CLIP's two marks and what 2.x and XL pad with."""

_UNET: dict[str, Any] = {
    "sample_size": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "cross_attention_dim": 12,
}
_KINDS: dict[str, dict[str, Any]] = {
    "sd1": {},
    "sd2": {"use_linear_projection": True, "attention_head_dim": [2, 4]},
    "xl": {
        "use_linear_projection": True,
        "transformer_layers_per_block": [2, 1],
        "cross_attention_dim": 20,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 8 + 6 * 4,
    },
}


def write_tiny_stable_diffusion(folder: Path, kind: str = "sd1", scale: float = 0.18215) -> None:
    """A conditional prior: 16 px images, 4 x 8 x 8 latents. Always the same weights."""
    torch.manual_seed(1)
    tiny_vae(scaling_factor=scale).half().save_pretrained(folder / "vae")
    UNet2DConditionModel(**_UNET | _KINDS[kind]).half().save_pretrained(folder / "unet")
    write_text(folder, width=12, act="quick_gelu" if kind == "sd1" else "gelu", pad="!" if kind == "sd2" else END)
    if kind == "xl":
        write_text(folder, width=8, act="gelu", pad="!", which="_2")
        index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
        (folder / "model_index.json").write_text(json.dumps(index))
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
    if kind == "sd2":
        scheduler["prediction_type"] = "v_prediction"
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


def write_text(folder: Path, *, width: int, act: str, pad: str, which: str = "") -> None:
    """text_encoder/ and tokenizer/, or the second ones of XL, which project the end of a prompt."""
    vocabulary = {token: k for k, token in enumerate(TOKENS)}
    config = CLIPTextConfig(
        vocab_size=len(TOKENS),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2 if which or act == "gelu" else 1,
        num_attention_heads=2,
        hidden_act=act,
        bos_token_id=vocabulary[START],
        eos_token_id=vocabulary[END],
    )
    text = CLIPTextModelWithProjection(config) if which else CLIPTextModel(config)
    text.half().save_pretrained(folder / f"text_encoder{which}")
    weights = load_file(folder / f"text_encoder{which}" / "model.safetensors")
    published = {name if name.startswith("text_") else f"text_model.{name}": values for name, values in weights.items()}
    published["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(published, folder / f"text_encoder{which}" / "model.safetensors", metadata={"format": "pt"})

    tokenizer = folder / f"tokenizer{which}"
    tokenizer.mkdir()
    (tokenizer / "vocab.json").write_text(json.dumps(vocabulary))
    (tokenizer / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    marks = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    (tokenizer / "special_tokens_map.json").write_text(json.dumps(marks))
    more = marks | {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(more))
