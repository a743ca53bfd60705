import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from prior_files import WEIGHTS, edit, rename
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from worker.priors.diffusers import BUILTIN, BadPrior, load
from worker.psld.operators import Inpaint
from worker.psld.prior import LatentPrior
from worker.psld.sampler import Guidance, ddim, sample
from worker.psld.schedule import walk


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unguided(prior: LatentPrior, side: int, steps: int) -> torch.Tensor:
    mask = torch.ones(1, 1, side, side)
    generators = [torch.Generator().manual_seed(0)]
    return sample(prior, Inpaint(mask), torch.zeros(1, 3, side, side), generators, Guidance(steps, 0, 0))


def test_the_built_in_prior_has_the_sizes_of_its_card() -> None:
    prior = load(BUILTIN)
    assert (prior.multiple, prior.native_size) == (16, 128)
    assert prior.latent_shape(128, 96) == (4, 32, 24)
    z = prior.encode(torch.zeros(2, 3, 128, 96))
    assert z.shape == (2, 4, 32, 24)
    assert prior.decode(z).shape == (2, 3, 128, 96)
    assert prior.eps(z, torch.tensor([0, 999])).shape == z.shape
    assert prior.alpha_bar.shape == (1000,)
    assert prior.alpha_bar.dtype == torch.float32
    assert prior.alpha_bar[0] == pytest.approx(1 - 0.00085)


def test_the_built_in_autoencoder_gives_back_what_it_was_given() -> None:
    prior = load(BUILTIN)
    across = torch.linspace(-2, 2, 128)
    x = (1.5 * torch.exp(-(across**2) - across[:, None] ** 2) - 1).expand(1, 3, 128, 128)
    psnr = 10 * torch.log10(4 / (prior.decode(prior.encode(x)) - x).square().mean())
    assert psnr > 28


@pytest.mark.parametrize("folder", ["plain", "stable_diffusion", "built-in"])
def test_weights_are_frozen_and_gradients_reach_every_input(folder: str, request: pytest.FixtureRequest) -> None:
    prior = load(BUILTIN if folder == "built-in" else request.getfixturevalue(folder))
    x = noise(1, 3, 32, 32).requires_grad_()
    z = prior.encode(x)
    out = prior.decode(prior.eps(z, torch.tensor([500])))
    assert out.dtype == torch.float32
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.abs().sum() > 0
    modules = [value for value in vars(prior).values() if isinstance(value, torch.nn.Module)]
    assert len(modules) == 2
    for module in modules:
        assert not module.training
        assert {(p.dtype, p.requires_grad) for p in module.parameters()} == {(torch.float32, False)}


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_our_steps_are_those_of_the_librarys_own_scheduler(eta: float) -> None:
    prior = load(BUILTIN)
    config = json.loads((BUILTIN / "scheduler" / "scheduler_config.json").read_text())
    scheduler = DDIMScheduler.from_config(config, timestep_spacing="trailing")
    scheduler.set_timesteps(8)
    path = walk(prior.alpha_bar, 8)
    assert [step.t for step in path] == scheduler.timesteps.tolist()
    ours = theirs = noise(1, 4, 8, 8)
    for k, step in enumerate(path):
        n = noise(1, 4, 8, 8, seed=k)
        e = prior.eps(ours, torch.tensor([step.t]))
        ours = ddim((ours - (1 - step.ab) ** 0.5 * e) / step.ab**0.5, e, step, eta, n if eta else None)
        e = prior.eps(theirs, torch.tensor([step.t]))
        theirs = scheduler.step(e, step.t, theirs, eta=eta, variance_noise=n if eta else None).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_latents_are_shifted_and_scaled_as_the_config_says(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "prior")
    edit(tmp_path / "prior" / "vae" / "config.json", shift_factor=0.25)
    prior = load(tmp_path / "prior")
    vae = AutoencoderKL.from_pretrained(str(plain / "vae"))
    x = noise(1, 3, 16, 16)
    z = (vae.encode(x).latent_dist.mode() - 0.25) * 0.5
    torch.testing.assert_close(prior.encode(x), z)
    torch.testing.assert_close(prior.decode(z), vae.decode(z / 0.5 + 0.25).sample)


def test_a_stable_diffusion_folder_samples_under_the_empty_prompt(stable_diffusion: Path) -> None:
    prior = load(stable_diffusion)
    assert (prior.multiple, prior.native_size) == (4, 16)
    assert unguided(prior, 16, 2).isfinite().all()


def test_the_empty_prompt_is_what_the_text_encoder_makes_of_it(stable_diffusion: Path) -> None:
    prior = load(stable_diffusion)
    prompt = prior._conditions[0].tokens
    weights = {
        name.removeprefix("text_model."): values.float()
        for name, values in load_file(stable_diffusion / "text_encoder" / "model.safetensors").items()
    }
    assert prompt.shape == (1, 77, 12)
    # Attention is causal, so the first vector depends on the start mark alone and can be worked out here.
    v = weights["embeddings.token_embedding.weight"][53] + weights["embeddings.position_embedding.weight"][0]

    def normed(v: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.layer_norm(v, (12,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def linear(v: torch.Tensor, name: str) -> torch.Tensor:
        return weights[f"{name}.weight"] @ v + weights[f"{name}.bias"]

    layer = "encoder.layers.0"
    value = linear(normed(v, f"{layer}.layer_norm1"), f"{layer}.self_attn.v_proj")
    v = v + linear(value, f"{layer}.self_attn.out_proj")
    inner = linear(normed(v, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")
    v = v + linear(inner * torch.sigmoid(1.702 * inner), f"{layer}.mlp.fc2")
    torch.testing.assert_close(prompt[0, 0], normed(v, "final_layer_norm"))

    start_then_ends = torch.tensor([[53] + [54] * 76])
    text_encoder = CLIPTextModel.from_pretrained(str(stable_diffusion / "text_encoder"), dtype=torch.float32)
    torch.testing.assert_close(prompt, text_encoder(start_then_ends).last_hidden_state)


def test_the_prompt_steers_the_denoiser(stable_diffusion: Path, tmp_path: Path) -> None:
    shutil.copytree(stable_diffusion, tmp_path / "prior")
    path = tmp_path / "prior" / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    weights["text_model.final_layer_norm.bias"] += 1
    save_file(weights, path, metadata={"format": "pt"})
    z, t = noise(2, 4, 8, 8), torch.tensor([500, 500])
    assert not torch.allclose(load(stable_diffusion).eps(z, t), load(tmp_path / "prior").eps(z, t))


def test_attention_weights_under_their_old_names_are_read(stable_diffusion: Path, tmp_path: Path) -> None:
    shutil.copytree(stable_diffusion, tmp_path / "prior")
    new_names = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    rename(tmp_path / "prior" / "vae" / WEIGHTS, new_names)
    x = noise(1, 3, 16, 16)
    assert torch.equal(load(stable_diffusion).encode(x), load(tmp_path / "prior").encode(x))


def test_loading_asks_nothing_of_the_network(stable_diffusion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError(f"a connection was tried: {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    load(stable_diffusion)
    with pytest.raises(BadPrior):
        load(stable_diffusion / "runwayml" / "stable-diffusion-v1-5")


def spoil(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def not_finite(weights: dict[str, torch.Tensor]) -> None:
    weights["conv_in.weight"][0, 0, 0, 0] = float("nan")


def as_pickle(path: Path) -> None:
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


UNET, VAE, SCHEDULER = "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"
FAULTS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "no U-Net config": (lambda f: (f / UNET).unlink(), UNET, "is missing"),
    "no autoencoder config": (lambda f: (f / VAE).unlink(), VAE, "is missing"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), SCHEDULER, "is missing"),
    "no weights": (lambda f: (f / "vae" / WEIGHTS).unlink(), f"vae/{WEIGHTS}", "is missing"),
    "pickled weights": (lambda f: as_pickle(f / "unet" / WEIGHTS), f"unet/{WEIGHTS}", "safetensors files only"),
    "broken JSON": (lambda f: (f / VAE).write_text("{"), VAE, "is not JSON"),
    "JSON of another kind": (lambda f: (f / UNET).write_text("[]"), UNET, "must hold a JSON object"),
    "another U-Net": (lambda f: edit(f / UNET, _class_name="Kandinsky3UNet"), UNET, "not Kandinsky3UNet"),
    "another prediction": (lambda f: edit(f / SCHEDULER, prediction_type="sample"), SCHEDULER, "not sample"),
    "no signal to begin with, for a denoiser of noise": (
        lambda f: edit(f / SCHEDULER, rescale_betas_zero_snr=True),
        SCHEDULER,
        "needs v_prediction",
    ),
    "unknown betas": (lambda f: edit(f / SCHEDULER, beta_schedule="cubic"), SCHEDULER, "gives no noise schedule"),
    "betas of zero": (lambda f: edit(f / SCHEDULER, beta_start=0.0, beta_end=0.0), SCHEDULER, "its betas"),
    "weights of other sizes": (
        lambda f: edit(f / UNET, block_out_channels=[16, 16]),
        f"unet/{WEIGHTS}",
        "does not fit the config.json",
    ),
    "a config of nonsense": (
        lambda f: edit(f / VAE, block_out_channels="wide"),
        f"vae/{WEIGHTS}",
        "does not fit the config.json",
    ),
    "a weight that is absent": (
        lambda f: spoil(f / "unet" / WEIGHTS, lambda w: w.pop("conv_out.bias")),
        f"unet/{WEIGHTS}",
        "lacks the weights conv_out.bias",
    ),
    "a weight that is not finite": (
        lambda f: spoil(f / "unet" / WEIGHTS, not_finite),
        f"unet/{WEIGHTS}",
        "conv_in.weight are not finite",
    ),
    "a cut file": (
        lambda f: (f / "vae" / WEIGHTS).write_bytes((f / "vae" / WEIGHTS).read_bytes()[:-100]),
        f"vae/{WEIGHTS}",
        "does not fit the config.json",
    ),
    "sides that differ": (lambda f: edit(f / UNET, sample_size=[8, 16]), UNET, "sample_size must be a number"),
    "latent statistics": (lambda f: edit(f / VAE, latents_mean=[0, 0, 0, 0]), VAE, "latents_mean"),
}


@pytest.mark.parametrize(("spoiled", "file", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_folder_that_cannot_be_used_is_refused_by_the_name_of_its_file(
    plain: Path, tmp_path: Path, spoiled: Callable[[Path], Any], file: str, message: str
) -> None:
    folder = tmp_path / "prior"
    shutil.copytree(plain, folder)
    spoiled(folder)
    with pytest.raises(BadPrior) as refused:
        load(folder)
    assert str(folder / file) in str(refused.value)
    assert message in str(refused.value)


def test_latents_of_other_channels_than_the_denoisers_are_refused(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prior"
    shutil.copytree(plain, folder)
    AutoencoderKL(latent_channels=3, block_out_channels=(8,), norm_num_groups=4).save_pretrained(folder / "vae")
    with pytest.raises(BadPrior) as refused:
        load(folder)
    assert str(folder / UNET) in str(refused.value)
    assert f"{folder / VAE} has 3 latent channels" in str(refused.value)


def test_an_autoencoder_of_other_channels_than_colours_is_refused(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prior"
    shutil.copytree(plain, folder)
    AutoencoderKL(in_channels=1, block_out_channels=(8,), norm_num_groups=4).save_pretrained(folder / "vae")
    with pytest.raises(BadPrior, match="in_channels must be 3, not 1"):
        load(folder)


SD_FAULTS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "no text encoder": (lambda f: shutil.rmtree(f / "text_encoder"), "text_encoder/config.json", "is missing"),
    "no vocabulary": (lambda f: (f / "tokenizer" / "vocab.json").unlink(), "tokenizer/vocab.json", "is missing"),
    "a vocabulary of nonsense": (lambda f: (f / "tokenizer" / "vocab.json").write_text("{"), "tokenizer", "cannot be"),
    "a text encoder of another width": (
        lambda f: _text_encoder_of(f, width=16),
        "text_encoder/config.json",
        "makes vectors of 16",
    ),
    "a text encoder that lacks a weight": (
        lambda f: spoil(f / "text_encoder/model.safetensors", lambda w: w.pop("text_model.final_layer_norm.bias")),
        "text_encoder/model.safetensors",
        "lacks the weights",
    ),
}


def _text_encoder_of(folder: Path, width: int) -> None:
    old = json.loads((folder / "text_encoder" / "config.json").read_text())
    config = CLIPTextConfig(**{k: v for k, v in old.items() if not k.startswith("_")} | {"hidden_size": width})
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")


@pytest.mark.parametrize(("spoiled", "file", "message"), SD_FAULTS.values(), ids=SD_FAULTS.keys())
def test_a_stable_diffusion_folder_needs_its_text_side(
    stable_diffusion: Path, tmp_path: Path, spoiled: Callable[[Path], Any], file: str, message: str
) -> None:
    folder = tmp_path / "prior"
    shutil.copytree(stable_diffusion, folder)
    spoiled(folder)
    with pytest.raises(BadPrior) as refused:
        load(folder)
    assert str(folder / file) in str(refused.value)
    assert message in str(refused.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPrior, match="nowhere is not a folder"):
        load(tmp_path / "nowhere")
