"""A Stable Diffusion as one file, with the names of the first programs, as such models are handed around."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"} | {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def write_single_file(folder: Path, path: Path, **more: torch.Tensor) -> None:
    """All weights of a diffusers folder as one file, with `more` entries."""
    weights: Weights = dict(more)
    for name, values in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        weights[f"model.diffusion_model.{_unet(name)}"] = values
    for name, values in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        new = _vae(name)
        flat = ".attn_1." in new and new.endswith("weight") and ".norm." not in new
        weights[f"first_stage_model.{new}"] = values[:, :, None, None] if flat else values
    is_xl = (folder / "text_encoder_2").is_dir()
    text = load_file(folder / "text_encoder" / "model.safetensors")
    if is_xl:
        weights |= {f"conditioner.embedders.0.transformer.{name}": values for name, values in text.items()}
        second = load_file(folder / "text_encoder_2" / "model.safetensors")
        weights |= _open_clip(second, "conditioner.embedders.1.model.")
    elif any("text_projection" in name for name in text) or "layers.1." in " ".join(text):
        weights |= _open_clip(text, "cond_stage_model.model.")
    else:
        weights |= {f"cond_stage_model.transformer.{name}": values for name, values in text.items()}
    save_file({name: values.contiguous() for name, values in weights.items()}, path)


def _unet(name: str) -> str:
    for ours, theirs in _UNET.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs)
    parts = name.split(".")
    if parts[0] == "mid_block":
        place = {("attentions", "0"): 1, ("resnets", "0"): 0, ("resnets", "1"): 2}[parts[1], parts[2]]
        return f"middle_block.{place}." + _inner(parts[1], ".".join(parts[3:]))
    block, layer, rest = int(parts[1]), int(parts[3]), ".".join(parts[4:])
    per_block = 1  # layers_per_block of the tiny ones
    if parts[0] == "down_blocks":
        if parts[2] == "downsamplers":
            return f"input_blocks.{(per_block + 1) * (block + 1)}.0.op." + rest.removeprefix("conv.")
        return f"input_blocks.{(per_block + 1) * block + layer + 1}.{int(parts[2] == 'attentions')}." + _inner(
            parts[2], rest
        )
    if parts[2] == "upsamplers":
        return f"output_blocks.{(per_block + 1) * block + per_block}.1." + rest
    return f"output_blocks.{(per_block + 1) * block + layer}.{int(parts[2] == 'attentions')}." + _inner(parts[2], rest)


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    name, _, what = rest.rpartition(".")
    return f"{_RESNET[name]}.{what}"


def _vae(name: str) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    parts = name.split(".")
    if parts[0] not in ("encoder", "decoder") or parts[1] in ("conv_in", "conv_out", "norm_out"):
        return name
    side = parts[0]
    if parts[1] == "mid_block":
        if parts[2] == "resnets":
            return f"{side}.mid.block_{int(parts[3]) + 1}." + ".".join(parts[4:])
        rest = ".".join(parts[4:])
        for ours, theirs in _VAE_ATTENTION.items():
            if rest.startswith(f"{ours}."):
                return f"{side}.mid.attn_1." + rest.replace(ours, theirs)
    block = int(parts[2])
    way, place = ("down", block) if side == "encoder" else ("up", 1 - block)  # the tiny ones have two blocks
    rest = ".".join(parts[5:])
    if parts[3] == "resnets":
        return f"{side}.{way}.{place}.block.{parts[4]}.{rest}"
    return f"{side}.{way}.{place}.{way}sample.{rest}"


def _open_clip(text: Weights, prefix: str) -> Weights:
    def get(name: str) -> torch.Tensor:
        return text[name if name in text else f"text_model.{name}"]

    made: dict[str, Any] = {
        "token_embedding.weight": get("embeddings.token_embedding.weight"),
        "positional_embedding": get("embeddings.position_embedding.weight"),
        "ln_final.weight": get("final_layer_norm.weight"),
        "ln_final.bias": get("final_layer_norm.bias"),
    }
    if "text_projection.weight" in text:
        made["text_projection"] = text["text_projection.weight"].T
    layers = {name.split("layers.")[1].split(".")[0] for name in text if "layers." in name}
    for layer in layers:
        ours, theirs = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for what in ("weight", "bias"):
            parts = [get(f"{ours}self_attn.{which}_proj.{what}") for which in "qkv"]
            made[f"{theirs}attn.in_proj_{what}"] = torch.cat(parts)
            made[f"{theirs}attn.out_proj.{what}"] = get(f"{ours}self_attn.out_proj.{what}")
            for a, b in (
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                made[f"{theirs}{b}.{what}"] = get(f"{ours}{a}.{what}")
    return {prefix + name: values for name, values in made.items()}
