"""Which files of a repository make up a prior: its configurations, words and weights, and the latter as safetensors."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.hub.errors import CannotFetch

WHOLE = "checkpoint.safetensors"
"""What a file that holds a whole model is called here (`worker.priors.files`)."""

_UNET = "unet"
_AUTOENCODERS = ("vae", "vqvae")
_TEXT = ("text_encoder", "text_encoder_2")
_TOKENIZERS = ("tokenizer", "tokenizer_2")
_WORDS = re.compile(r"[A-Za-z0-9_]+\.json|merges\.txt")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_CONVERT = (
    "A pickle may run code when it is read, so only safetensors are taken. Convert it where that does no harm, with "
    "diffusers' save_pretrained or safetensors.torch.save_file, and make the result known with `regrow priors add`."
)
_MOST_BESIDE = 64 * 2**20
"""Bytes of a file that holds no weights."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a repository: its bytes, and what they hash to. `sha256` is None of small ones, which git keeps."""

    path: str
    size: int
    blob: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch, and what it is called here."""

    found: Found
    name: str


def choose(files: Iterable[Found], file: str | None = None, variant: str | None = None) -> list[Wanted]:
    """Those that make up the prior of a repository.

    Args:
        file: the one that holds the whole model, where the repository is not in the diffusers layout.
        variant: `fp16`: take the smaller weights of each part that has some.

    Raises:
        CannotFetch: it is no prior, lacks something, or has its weights as pickles only.
    """
    there = {each.path: each for each in files}
    if file is not None:
        if file not in there:
            raise CannotFetch("missing_file", f"The repository has no file {file}. {_whole_ones(there)}")
        names = {file: WHOLE}
    else:
        names = {path: path for path in _layout(there, variant)}
    if "README.md" in there:
        names["README.md"] = "README.md"
    for path in names:
        if not path.endswith(".safetensors") and there[path].size > _MOST_BESIDE:
            raise CannotFetch("bad_prior", f"{path} has {there[path].size:,} bytes, and is to hold no weights.")
    return [Wanted(there[path], name) for path, name in names.items()]


def _layout(there: Mapping[str, Found], variant: str | None) -> list[str]:
    """The paths of a repository in the diffusers layout, of a prior or of an autoencoder."""
    parts = {path.partition("/")[0] for path in there if "/" in path}
    if _UNET not in parts:
        return _autoencoder(there, variant)
    autoencoder = next((part for part in _AUTOENCODERS if part in parts), None)
    if autoencoder is None:
        raise CannotFetch("missing_file", "The repository has a unet/, and neither vae/ nor vqvae/.")
    chosen = _needed(there, "scheduler/scheduler_config.json")
    for part in (_UNET, autoencoder, *(part for part in _TEXT if part in parts)):
        stem = "model" if part in _TEXT else "diffusion_pytorch_model"
        chosen += _needed(there, f"{part}/config.json") + _weights(there, f"{part}/", stem, variant)
    for part in _TOKENIZERS:
        chosen += sorted(path for path in there if _is_word_of(part, path))
    return chosen + [path for path in ("model_index.json",) if path in there]


def _autoencoder(there: Mapping[str, Found], variant: str | None) -> list[str]:
    """Those of an autoencoder, which lies at the top; most that are none are told which file they might mean."""
    stem = "diffusion_pytorch_model"
    if "config.json" in there and any(path.startswith(f"{stem}.") for path in there):
        return ["config.json", *_weights(there, "", stem, variant)]
    if not any(path.endswith(".safetensors") for path in there) and any(path.endswith(_PICKLES) for path in there):
        raise CannotFetch("pickle", f"The repository has its weights as pickles only. {_CONVERT}")
    raise CannotFetch("missing_file", f"The repository is not in the diffusers layout: no unet/. {_whole_ones(there)}")


def _weights(there: Mapping[str, Found], folder: str, stem: str, variant: str | None) -> list[str]:
    """The weights of a part, in one file or in several: of the variant where it has them, else the other ones."""
    plain = _of(there, folder, rf"{stem}\.safetensors", rf"{stem}\.safetensors\.index\.json", rf"{stem}-\d+-of-\d+")
    half = _of(
        there,
        folder,
        rf"{stem}\.fp16\.safetensors",
        rf"{stem}\.safetensors\.index\.fp16\.json",
        rf"{stem}(\.fp16-\d+-of-\d+|-\d+-of-\d+\.fp16)",
    )
    found = (half or plain) if variant == "fp16" else (plain or half)
    if found:
        return found
    if any(path.startswith(folder) and path.endswith(_PICKLES) for path in there):
        raise CannotFetch("pickle", f"{folder or 'The repository'} has its weights as pickles only. {_CONVERT}")
    raise CannotFetch("missing_file", f"The repository has no {folder}{stem}.safetensors.")


def _of(there: Mapping[str, Found], folder: str, one: str, index: str, part: str) -> list[str]:
    """The file that matches `one`, or else the index and the parts it is of."""
    inside = [path for path in sorted(there) if path.startswith(folder)]

    def matching(pattern: str) -> list[str]:
        return [path for path in inside if re.fullmatch(pattern, path.removeprefix(folder))]

    indices = matching(index)
    return matching(one) or (indices + matching(rf"{part}\.safetensors") if indices else [])


def _needed(there: Mapping[str, Found], path: str) -> list[str]:
    if path not in there:
        raise CannotFetch("missing_file", f"The repository has no {path}.")
    return [path]


def _is_word_of(part: str, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder == part and _WORDS.fullmatch(name) is not None


def _whole_ones(there: Mapping[str, Found]) -> str:
    """Which files might hold a whole model."""
    names: Sequence[str] = sorted(path for path in there if path.endswith(".safetensors"))
    if not names:
        return "It has no .safetensors at all."
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"If one file holds the whole model, name it as `file`: {', '.join(names[:10])}{more}."
