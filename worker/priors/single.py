"""A Stable Diffusion in one .safetensors file, given the configurations that such a file lacks.

What is made is a folder like any other prior's, small, with a link to the file: nothing is copied. A file that lies
in it already, under that name, stays as it is.
"""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from worker.priors.files import WHOLE, BadPrior

_ARCHITECTURES = Path(__file__).parent / "architectures"
ARCHITECTURES = ("sd1", "sd2", "sd2-base", "xl")

_CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
_CONTEXT = "model.diffusion_model.input_blocks.{}.1.transformer_blocks.0.attn2.to_k.weight"
_XL = "conditioner.embedders.1.model.token_embedding.weight"
_REFINER = "conditioner.embedders.0.model.token_embedding.weight"
_WIDTHS = {768: "sd1", 1024: "sd2"}
_V, _NO_SIGNAL = "v_pred", "ztsnr"
"""Entries by which some files say that they predict v, and that their schedule ends without any signal."""

_MERGES = 49152 - 256 - 2


def lay_out(file: Path, folder: Path, architecture: str | None = None, configs: Path | None = None) -> None:
    """Make `folder`, a prior whose weights are those of `file`.

    Its configurations are those of an architecture, which is found out where it is left open, or, copied, those in the
    folders of `configs`. Raises BadPrior.
    """
    names = _entries(file)
    if configs is not None:
        for path in sorted([*configs.glob("*/*.json"), *configs.glob("*/*.txt"), *configs.glob("model_index.json")]):
            target = folder / path.relative_to(configs)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    else:
        _write(folder, parts_of(architecture or architecture_of(file, names)), _said(names))
    folder.mkdir(parents=True, exist_ok=True)
    if file.absolute() != (folder / WHOLE).absolute():
        (folder / WHOLE).symlink_to(file.absolute())


def parts_of(architecture: str) -> dict[str, Any]:
    """The configuration of each part of one of `ARCHITECTURES`."""
    parts: dict[str, Any] = json.loads((_ARCHITECTURES / f"{architecture}.json").read_text("utf-8"))
    return parts


def architecture_of(file: Path, names: dict[str, list[int]]) -> str:
    """Which of `ARCHITECTURES` the weights are of, by their names and shapes. Raises BadPrior."""
    if _REFINER in names:
        raise BadPrior(f"{file} is the refiner of a Stable Diffusion XL; its base model is wanted")
    if _CONV_IN not in names:
        raise BadPrior(
            f"{file} is no Stable Diffusion 1.x, 2.x or XL: it lacks {_CONV_IN}. Of a model in the diffusers format, "
            "add the folder with model_index.json"
        )
    if names[_CONV_IN][1] != 4:
        raise BadPrior(f"{file}: its denoiser has {names[_CONV_IN][1]} channels in, not 4; its base model is wanted")
    if _XL in names:
        return "xl"
    width = names.get(_CONTEXT.format(1), [0])[-1]
    if width not in _WIDTHS:
        raise BadPrior(f"{file}: its denoiser attends to vectors of {width}, those of Stable Diffusion to 768 or 1024")
    found = _WIDTHS[width]
    if found == "sd2" and _V not in names:
        raise BadPrior(
            f"{file} is a Stable Diffusion 2.x and does not say what it predicts: say --architecture sd2 (v, 768 px) "
            "or --architecture sd2-base (noise, 512 px)"
        )
    return found


def _entries(file: Path) -> dict[str, list[int]]:
    if file.suffix != ".safetensors":
        raise BadPrior(
            f"{file} is no .safetensors file. A .ckpt or .bin is a pickle, which may run code when it is read: convert "
            "it where that does no harm, with safetensors.torch.save_file(torch.load(...)['state_dict'], ...)"
        )
    try:
        with safe_open(file, "pt") as weights:
            return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError) as error:
        raise BadPrior(f"{file} cannot be read as safetensors: {error}") from error


def _said(names: dict[str, list[int]]) -> dict[str, Any]:
    said: dict[str, Any] = {"prediction_type": "v_prediction"} if _V in names else {}
    return said | {"rescale_betas_zero_snr": True} if _NO_SIGNAL in names else said


def _write(folder: Path, parts: dict[str, Any], schedule: dict[str, Any]) -> None:
    names = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
    parts["scheduler"] |= schedule
    for part, config in parts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        name = names.get(part.removesuffix("_2"), "config.json")
        (folder / part / name).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        if part.startswith("tokenizer"):
            _write_words(folder / part)


def _write_words(folder: Path) -> None:
    """vocab.json and merges.txt of CLIP."""
    with gzip.open(_ARCHITECTURES / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : _MERGES + 1]
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")


def _letters() -> list[str]:
    """A printable character for each byte, those first that are printable themselves."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + k) for k in range(len(others))]
