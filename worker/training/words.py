"""New words for a large prior: a vector for each class, and nothing else of it changes.

Gal et al., An Image is Worth One Word: Personalizing Text-to-Image Generation using Textual Inversion (2208.01618).
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from worker.priors.diffusers import alpha_bar_of
from worker.priors.files import Files
from worker.priors.text import PARTS
from worker.training.adapters import Conditional, Predicted
from worker.training.errors import CannotTrain

Classes = tuple[str, ...]


def word_of(name: str) -> str:
    """The word for a class: `Distal Fracture` is `<distal-fracture>`."""
    return f"<{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'class'}>"


def prompt_of(classes: Classes) -> str:
    """What a picture that shows some classes is described as."""
    return ", ".join(f"a {word_of(name)}" for name in classes)


class Taught(nn.Module):
    """An embedding of words of which the last ones are learned, and only they."""

    def __init__(self, known: Tensor, new: Tensor) -> None:
        super().__init__()
        self.known = nn.Parameter(known, requires_grad=False)
        self.new = nn.Parameter(new)

    def forward(self, ids: Tensor) -> Tensor:
        count = len(self.known)
        old = nn.functional.embedding(ids.clamp(max=count - 1), self.known)
        new = nn.functional.embedding((ids - count).clamp(min=0), self.new)
        return torch.where((ids >= count)[..., None], new, old)


class Worded(Conditional):
    """A conditional U-Net under prompts of new words.

    `prompts` (P, 77) are the tokens of one prompt for each combination of classes; `which` (B,) says which belongs to
    a row. Without it, they take turns.
    """

    prompts: Tensor

    def __init__(self, unet: Any, text: Any, prompts: Tensor, levels: Tensor | None) -> None:
        super().__init__(unet, levels)
        self.text = text
        self.register_buffer("prompts", prompts, persistent=False)

    @property
    def vectors(self) -> Tensor:
        """(words, width)"""
        made: Tensor = self.text.get_input_embeddings().new
        return made

    def forward(self, z: Tensor, t: Tensor, which: Tensor | None = None) -> Predicted:
        if which is None:
            which = torch.arange(len(z), device=z.device) % len(self.prompts)
        wanted, place = torch.unique(which.to(z.device), return_inverse=True)
        said = self.text(self.prompts[wanted]).last_hidden_state
        return self.noise(z, t, said[place])


def taught(folder: Path, combinations: Sequence[Classes]) -> Worded:
    """The denoiser of a Stable Diffusion folder under prompts for some combinations of classes; only the vectors of
    their words can be trained, and they begin as the mean of what the classes' names are made of. Raises CannotTrain.
    """
    files = Files(folder)
    levels, prediction = alpha_bar_of(files)
    unet = files.model(UNet2DConditionModel, "unet")
    text, tokenizer = (files.model(CLIPTextModel, PARTS[0]), files.tokenizer(PARTS[1]))
    known = text.get_input_embeddings().weight.detach()
    names = {word_of(name): name for classes in combinations for name in classes}
    beginnings = [known[_inner(tokenizer, name)].mean(dim=0) for name in names.values()]
    _teach(tokenizer, list(names), len(known))
    text.set_input_embeddings(Taught(known, torch.stack(beginnings)))
    length = text.config.max_position_embeddings
    rows = [tokenizer(prompt_of(each), padding="max_length", max_length=length).input_ids for each in combinations]
    if any(len(row) > length for row in rows):
        raise CannotTrain(f"A picture shows more classes than a prompt of {length} tokens can name.")
    return Worded(unet, text, torch.tensor(rows), levels if prediction == "v_prediction" else None)


def write_text(files: Files, folder: Path, model: Worded, classes: Sequence[str]) -> None:
    """Write the text side of a prior into another folder, with its new words."""
    text, tokenizer = files.model(CLIPTextModel, PARTS[0]), files.tokenizer(PARTS[1])
    known = text.config.vocab_size
    names = list(dict.fromkeys(word_of(name) for name in classes))
    _teach(tokenizer, names, known)
    text.resize_token_embeddings(known + len(names), mean_resizing=False)
    with torch.no_grad():
        text.get_input_embeddings().weight[known:] = model.vectors.cpu()
    text.half().save_pretrained(folder / PARTS[0])
    shutil.copytree(files.folder / PARTS[1], folder / PARTS[1], dirs_exist_ok=True)
    tokenizer.save_pretrained(folder / PARTS[1])
    words = {word: known + k for k, word in enumerate(names)}
    path = folder / PARTS[1] / "added_tokens.json"
    before = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(before | words, indent=2) + "\n", "utf-8")


def _teach(tokenizer: Any, words: Sequence[str], known: int) -> None:
    for place, word in enumerate(words, start=known):
        if not tokenizer.add_tokens([word]):
            raise CannotTrain(f"The prior to begin with knows the word {word} already. Rename the class.")
        if tokenizer.convert_tokens_to_ids(word) != place:
            raise CannotTrain(f"The tokenizer has {place} words or more, but the text encoder of the prior {known}.")


def _inner(tokenizer: Any, name: str) -> list[int]:
    """The tokens of a text without the marks around it; of one without any, the end's."""
    ids: list[int] = tokenizer(name).input_ids
    return ids[1:-1] or ids[-1:]
