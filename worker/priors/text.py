"""What a prior's text encoders make of words. They are loaded for as long as they are needed, and no longer."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from worker.priors.files import WHOLE, BadPrior, Files

PARTS = ("text_encoder", "tokenizer")
"""The folders of the text side of Stable Diffusion 1.x and 2.x."""


class BadPrompt(ValueError):
    """A prompt cannot be used with this prior; the message says why."""


@dataclass(frozen=True)
class Embedded:
    """A prompt as a denoiser takes it: ``tokens`` (1, n, width), and ``pooled`` (1, width) where it wants that."""

    tokens: Tensor
    pooled: Tensor | None = None

    def to(self, device: torch.device | str) -> "Embedded":
        return Embedded(self.tokens.to(device), None if self.pooled is None else self.pooled.to(device))


class Text:
    """The text side of a prior whose denoiser has the configuration ``unet``: one encoder, or the two of XL."""

    def __init__(self, files: Files, unet: Any) -> None:
        self._files = files
        self._width = int(unet.cross_attention_dim)
        self.is_xl = unet.addition_embed_type == "text_time"
        # What XL was trained on without a prompt is no prompt's embedding, but zeros; base 1.0 says so.
        self._zeros = self.is_xl and bool(files.index().get("force_zeros_for_empty_prompt", True))

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> list[Embedded]:
        """Each prompt as the denoiser takes it, on the CPU in float32. Raises BadPrior, and BadPrompt."""
        parts = [self._encoded("", prompts)]
        if self.is_xl:
            parts.append(self._encoded("_2", prompts))
        tokens = torch.cat([tokens for tokens, _ in parts], dim=-1)
        if tokens.shape[-1] != self._width:
            raise BadPrior(
                f"{self._files.path('text_encoder')} makes vectors of {tokens.shape[-1]}, "
                f"but cross_attention_dim of {self._files.path('unet')} is {self._width}"
            )
        pooled = parts[-1][1]
        made = [
            Embedded(tokens[row : row + 1].clone(), None if pooled is None else pooled[row : row + 1].clone())
            for row in range(len(prompts))
        ]
        return [
            _zeros(each) if self._zeros and not prompt else each for prompt, each in zip(prompts, made, strict=True)
        ]

    def _encoded(self, which: str, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        pooling = self.is_xl and which == "_2"
        encoder = self._files.model(CLIPTextModelWithProjection if pooling else CLIPTextModel, f"text_encoder{which}")
        tokenizer = self._files.tokenizer(f"tokenizer{which}")
        length, known = encoder.config.max_position_embeddings, encoder.config.vocab_size
        rows = [tokenizer(prompt, padding="max_length", max_length=length).input_ids for prompt in prompts]
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) > length:
                raise BadPrompt(f"the prompt has {len(row) - 2} tokens, and at most {length - 2} can be read: {prompt}")
            if max(row) >= known:
                raise BadPrior(
                    f"{self._files.folder / f'tokenizer{which}'} has more words than the {known} of "
                    f"{self._files.path(f'text_encoder{which}')}"
                )
        found = encoder(torch.tensor(rows), output_hidden_states=self.is_xl)
        if not self.is_xl:
            return found.last_hidden_state, None
        return found.hidden_states[-2], found.text_embeds if pooling else None


def copy_text(files: Files, folder: Path) -> None:
    """Write the text side of Stable Diffusion 1.x or 2.x into another folder, as files of its own."""
    for part in PARTS:
        shutil.copytree(files.folder / part, folder / part, dirs_exist_ok=True)
    if (files.folder / WHOLE).is_file():
        files.model(CLIPTextModel, PARTS[0], float32=False).save_pretrained(folder / PARTS[0])


def _zeros(like: Embedded) -> Embedded:
    return Embedded(torch.zeros_like(like.tokens), None if like.pooled is None else torch.zeros_like(like.pooled))
