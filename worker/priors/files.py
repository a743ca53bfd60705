"""The files of a prior: configurations, weights and words, each read with an error that names the file."""

import hashlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from diffusers.utils import logging
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_logging

CARD = "card.json"
WHOLE = "checkpoint.safetensors"
"""All weights of a prior in one file, under the names of the first programs (`model.diffusion_model.` and so on)."""

_WEIGHTS = "diffusion_pytorch_model"
_TEXT_WEIGHTS = "model"
_PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")
_NETWORKS = ("unet", "vae", "vqvae", "")
_TEXT = ("cond_stage_model.", "conditioner.")
"""How the entries of a text encoder begin in a file with everything in it."""

# Of a file with everything in it, each model leaves most unused, and is not to say so line by line.
logging.set_verbosity_error()
# Whoever is told what went wrong reads it on the same stream as bars of what went well.
logging.disable_progress_bar()
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call] # not annotated


class BadPrior(ValueError):
    """A folder cannot be used as a prior; the message names the file and what is wrong with it."""


class Files:
    """The folder of a prior. Weights are read from safetensors only, and nothing is ever fetched."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BadPrior(f"{folder} is not a folder")
        self.folder = folder

    def path(self, part: str) -> Path:
        """Where the configuration of a part lies."""
        name = {"scheduler": "scheduler_config.json"}.get(part, "config.json")
        return self.folder / part / name

    def has(self, part: str) -> bool:
        return (self.folder / part).is_dir()

    def config(self, part: str) -> dict[str, Any]:
        return read_config(self.path(part))

    def index(self) -> dict[str, Any]:
        """What model_index.json says of the whole; empty where there is none."""
        path = self.folder / "model_index.json"
        return read_config(path) if path.is_file() else {}

    def model(self, kind: Any, part: str, *, float32: bool = True) -> Any:
        """A part with its weights, frozen, in float32 unless it is to stay as it is stored."""
        self.config(part)
        named = part or "the autoencoder"
        whole = self.folder / WHOLE
        path = whole if whole.is_file() else self._weights(part)
        try:
            model, missing = _from_whole(kind, path, part) if path == whole else _from_folder(kind, path)
        except (OSError, RuntimeError, TypeError, ValueError, AttributeError, KeyError, SafetensorError) as error:
            raise BadPrior(f"{path} does not fit the config.json of {named}: {error}") from error
        if missing:  # the library would go on with random weights in their place
            raise BadPrior(f"{path} lacks the weights {', '.join(sorted(missing)[:3])} of {named}")
        for name, values in model.state_dict().items():
            if not values.isfinite().all():
                raise BadPrior(f"{path}: of {named}, the weights {name} are not finite")
        return (model.float() if float32 else model).requires_grad_(False).eval()

    def tokenizer(self, part: str) -> Any:
        for name in ("vocab.json", "merges.txt"):
            if not any((self.folder / part / each).is_file() for each in (name, "tokenizer.json")):
                raise BadPrior(f"{self.folder / part / name} is missing")
        try:
            return CLIPTokenizer.from_pretrained(str(self.folder / part), local_files_only=True)
        except Exception as error:  # the tokenizers library raises nothing more particular
            raise BadPrior(f"{self.folder / part} cannot be read: {error}") from error

    def _weights(self, part: str) -> Path:
        folder, stem = self.folder / part, _TEXT_WEIGHTS if part.startswith("text_encoder") else _WEIGHTS
        plain = (f"{stem}.safetensors", f"{stem}.safetensors.index.json")
        for name in (*plain, f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.fp16.json"):
            if (folder / name).is_file():
                return folder / name
        hint = "weights are read from safetensors files only"
        if any(path for pattern in _PICKLES for path in folder.glob(pattern)):
            hint += ", as a pickle may run code; `StableDiffusionPipeline.from_pretrained(...).save_pretrained(...)` "
            hint += "of diffusers converts it, on a machine that may trust it"
        raise BadPrior(f"{folder / f'{stem}.safetensors'} is missing: {hint}")


def size_in_memory(folder: Path, each: int = 4) -> int:
    """Bytes that the networks of a prior, or an autoencoder of its own, take with `each` bytes a weight.

    Nothing is loaded. A text encoder does not count, as it is not kept; nor does what cannot be read, which is for
    `Files.model` to say.
    """
    return each * sum(_entries(path) for path in _networks(folder))


def _networks(folder: Path) -> list[Path]:
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    found = []
    for part in _NETWORKS:
        files = sorted((folder / part).glob(f"{_WEIGHTS}*.safetensors"))
        # The same weights may lie there twice.
        found += [path for path in files if ".fp16." not in path.name] or files
    return found


def _entries(path: Path) -> int:
    try:
        with safe_open(path, framework="pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys() if not name.startswith(_TEXT)]  # noqa: SIM118  (it is no mapping)
    except (OSError, SafetensorError):
        return 0
    return sum(math.prod(shape) for shape in shapes)


def read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadPrior(f"{path} is missing") from error
    except ValueError as error:
        raise BadPrior(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise BadPrior(f"{path} must hold a JSON object")
    return config


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of a prior's weights, by the part whose only file they are, or else by the file's name."""
    found = sorted([*folder.glob("*/*.safetensors"), *folder.glob("*.safetensors")])
    alone = Counter(path.parent for path in found)
    named = {}
    for path in found:
        part = path.parent != folder and alone[path.parent] == 1
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        named[path.parent.name if part else path.relative_to(folder).as_posix()] = digest
    return named


def check_card(folder: Path) -> None:
    """What a card says is of no use, and may mislead, where the weights are others."""
    if not (folder / CARD).is_file():
        return
    hashes = read_config(folder / CARD).get("weights")
    if not isinstance(hashes, dict):
        raise BadPrior(f"{folder / CARD} does not say of which weights it is")
    weights = {path.relative_to(folder).as_posix(): path for path in folder.glob("*/*.safetensors")}
    for name in sorted(hashes.keys() | weights.keys()):
        if name not in weights:
            raise BadPrior(f"{folder / CARD} is the card of other weights: {name} is missing")
        with weights[name].open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != hashes.get(name):
                raise BadPrior(f"{folder / CARD} is the card of other weights than {name}")


def _from_folder(kind: Any, path: Path) -> tuple[Any, set[str]]:
    variant = "fp16" if ".fp16." in path.name else None
    model, found = kind.from_pretrained(
        str(path.parent), local_files_only=True, use_safetensors=True, output_loading_info=True, variant=variant
    )
    return model, set(found["missing_keys"])


def _from_whole(kind: Any, path: Path, part: str) -> tuple[Any, set[str]]:
    weights: dict[str, Tensor] = load_file(path)
    place = {"config": str(path.parent), "subfolder": part, "local_files_only": True}
    if part.startswith("text_encoder"):
        model = create_diffusers_clip_model_from_ldm(kind, weights, **place)  # type: ignore[no-untyped-call] # not annotated
    else:
        model = kind.from_single_file(weights, **place)
    return model, {name for name, values in model.named_parameters() if values.is_meta}
