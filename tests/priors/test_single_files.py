"""Stable Diffusions in one .safetensors file."""

import json
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_single_file import write_single_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from worker.priors import single
from worker.priors.check import check
from worker.priors.diffusers import BadPrior, alpha_bar_of, load
from worker.priors.files import WHOLE, Files

T = torch.tensor([700])


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_2", "stable_diffusion_xl"])
def test_one_file_is_the_same_prior_as_its_folder(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(kind)
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "model.safetensors"
    write_single_file(folder, file)
    single.lay_out(file, tmp_path / "prior", configs=folder)
    check(tmp_path / "prior")
    assert (tmp_path / "prior" / WHOLE).samefile(file)
    assert sum(p.stat().st_size for p in (tmp_path / "prior").glob("*/*")) < 100_000
    ours, theirs, z, x = load(tmp_path / "prior"), load(folder), noise(1, 4, 8, 8), noise(1, 3, 16, 16)
    for prompt in ("", "ab c"):
        torch.testing.assert_close(ours.told(prompt, "", 1).eps(z, T), theirs.told(prompt, "", 1).eps(z, T))
    torch.testing.assert_close(ours.encode(x), theirs.encode(x))
    torch.testing.assert_close(ours.decode(z), theirs.decode(z))


def test_a_file_that_lies_in_its_folder_already_stays_what_it_is(stable_diffusion: Path, tmp_path: Path) -> None:
    (tmp_path / "prior").mkdir()
    write_single_file(stable_diffusion, tmp_path / "prior" / WHOLE)
    for _ in range(2):
        single.lay_out(tmp_path / "prior" / WHOLE, tmp_path / "prior", configs=stable_diffusion)
        check(tmp_path / "prior")
    assert not (tmp_path / "prior" / WHOLE).is_symlink()


SIZES = {  # as they were published
    "sd1": (859_520_964, 83_653_863, [123_060_480]),
    "sd2": (865_910_724, 83_653_863, [340_387_840]),
    "sd2-base": (865_910_724, 83_653_863, [340_387_840]),
    "xl": (2_567_463_684, 83_653_863, [123_060_480, 694_659_840]),
}


@pytest.mark.parametrize("name", single.ARCHITECTURES)
def test_the_configurations_in_the_package_are_those_of_the_true_architectures(name: str, tmp_path: Path) -> None:
    file = tmp_path / "empty.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    single.lay_out(file, tmp_path / "prior", name)
    files = Files(tmp_path / "prior")
    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(files.config("unet"))
        vae = AutoencoderKL.from_config(files.config("vae"))
        texts = [
            kind(CLIPTextConfig(**files.config(part)))
            for part, kind in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection))
            if files.has(part)
        ]
    counted = [sum(p.numel() for p in model.parameters()) for model in (unet, vae, *texts)]
    unet_size, vae_size, text_sizes = SIZES[name]
    assert counted == [unet_size, vae_size, *text_sizes]
    levels, prediction = alpha_bar_of(files)
    assert float(levels[-1]) == pytest.approx(0.0047, abs=1e-4)
    assert prediction == ("v_prediction" if name == "sd2" else "epsilon")


def test_the_words_in_the_package_are_clips(tmp_path: Path) -> None:
    file = tmp_path / "empty.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    single.lay_out(file, tmp_path / "prior", "xl")
    first, second = (CLIPTokenizer.from_pretrained(tmp_path / "prior" / f"tokenizer{which}") for which in ("", "_2"))
    # What CLIP has always made of these.
    assert first("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert first("Hello world!").input_ids == [49406, 3306, 1002, 256, 49407]
    assert (first.pad_token_id, second.pad_token_id, len(first)) == (49407, 0, 49408)


def headed(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The entries by which a file is known."""
    told = {single._CONV_IN: torch.zeros(320, 4, 3, 3), single._CONTEXT.format(1): torch.zeros(320, 768)}
    return {name: values for name, values in (told | changes).items() if values is not None}


KNOWN = {
    "sd1": headed(),
    "sd2": headed(**{single._CONTEXT.format(1): torch.zeros(320, 1024), single._V: torch.zeros(0)}),
    "xl": headed(**{single._XL: torch.zeros(9, 1280), single._CONTEXT.format(1): None}),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_a_file_is_is_found_out(name: str, tmp_path: Path) -> None:
    save_file(KNOWN[name], tmp_path / "model.safetensors")
    single.lay_out(tmp_path / "model.safetensors", tmp_path / "prior")
    wanted = json.loads((single._ARCHITECTURES / f"{name}.json").read_text())
    assert Files(tmp_path / "prior").config("unet") == wanted["unet"]


def test_a_file_may_say_that_it_predicts_v_and_ends_without_signal(tmp_path: Path) -> None:
    save_file(KNOWN["xl"] | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, tmp_path / "model.safetensors")
    single.lay_out(tmp_path / "model.safetensors", tmp_path / "prior")
    levels, prediction = alpha_bar_of(Files(tmp_path / "prior"))
    assert (prediction, float(levels[-1]) < 1e-7) == ("v_prediction", True)


REFUSED = {
    "an inpainting model": (headed(**{single._CONV_IN: torch.zeros(320, 9, 3, 3)}), "9 channels in"),
    "the refiner": (headed(**{single._REFINER: torch.zeros(9, 1280)}), "is the refiner"),
    "an adapter": ({"lora_unet_down_blocks_0": torch.zeros(1)}, "is no Stable Diffusion"),
    "a 2.x that says no more": (
        headed(**{single._CONTEXT.format(1): torch.zeros(320, 1024)}),
        "--architecture sd2-base",
    ),
    "another width": (headed(**{single._CONTEXT.format(1): torch.zeros(320, 96)}), "vectors of 96"),
}


@pytest.mark.parametrize(("entries", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_no_prior_is_refused(entries: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    save_file(entries, tmp_path / "model.safetensors")
    with pytest.raises(BadPrior, match=message):
        single.lay_out(tmp_path / "model.safetensors", tmp_path / "prior")


def test_a_file_without_one_of_its_models_is_refused(stable_diffusion: Path, tmp_path: Path) -> None:
    write_single_file(stable_diffusion, tmp_path / "whole.safetensors")
    weights = load_file(tmp_path / "whole.safetensors")
    for start in ("first_stage_model.decoder.conv_in", "model.diffusion_model.out.2", "cond_stage_model"):
        kept = {name: values for name, values in weights.items() if not name.startswith(start)}
        save_file(kept, tmp_path / "less.safetensors")
        single.lay_out(tmp_path / "less.safetensors", tmp_path / start, configs=stable_diffusion)
        with pytest.raises(BadPrior, match=WHOLE):
            check(tmp_path / start)


def test_a_pickle_and_a_cut_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"PK")
    with pytest.raises(BadPrior, match="is a pickle"):
        single.lay_out(tmp_path / "model.ckpt", tmp_path / "prior")
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(BadPrior, match="cannot be read as safetensors"):
        single.lay_out(tmp_path / "model.safetensors", tmp_path / "prior")
