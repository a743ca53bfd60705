"""Stable Diffusion 2.x and XL and plain latent diffusion, against the library's own pipelines."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DModel, VQModel
from prior_files import edit
from tiny_prior import write_tiny_prior

from worker.priors import text
from worker.priors.diffusers import BadPrompt, DiffusersPrior, load
from worker.psld.operators import Inpaint
from worker.psld.prior import LatentPrior
from worker.psld.sampler import Guidance, ddim, sample
from worker.psld.schedule import walk

T = torch.tensor([700, 20])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def regrown(prior: LatentPrior, side: int = 16) -> torch.Tensor:
    mask = (noise(1, 1, side, side) > 0).float()
    y = mask * noise(1, 3, side, side, seed=1).clamp(-1, 1)
    return sample(prior, Inpaint(mask), y, [torch.Generator().manual_seed(0)], Guidance(4, 0.5, 2.5))


def librarys(folder: Path, kind: Any) -> Any:
    parts = {} if kind is StableDiffusionXLPipeline else {"safety_checker": None, "feature_extractor": None}
    prior = load(folder)
    made = {"vae": prior._vae, "unet": prior._unet, "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler")}
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    for which in ("", "_2") if kind is StableDiffusionXLPipeline else ("",):
        encoder = CLIPTextModelWithProjection if which else CLIPTextModel
        made[f"text_encoder{which}"] = encoder.from_pretrained(folder / f"text_encoder{which}", dtype=torch.float32)
        made[f"tokenizer{which}"] = CLIPTokenizer.from_pretrained(folder / f"tokenizer{which}")
    pipeline = kind(**made, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def walked(prior: DiffusersPrior, z: torch.Tensor, steps: int) -> torch.Tensor:
    for step in walk(prior.alpha_bar, steps):
        e = prior.eps(z, torch.tensor([step.t]))
        z = ddim((z - (1 - step.ab) ** 0.5 * e) / step.ab**0.5, e, step, 0.0, None)
    return z


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_2", "stable_diffusion_xl"])
@pytest.mark.parametrize(("negative", "scale"), [("b b", 5.0), ("", 7.5), ("", 1.0)])
def test_a_prompted_walk_is_that_of_the_librarys_own_pipeline(
    kind: str, negative: str, scale: float, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    pipeline = librarys(folder, StableDiffusionXLPipeline if kind.endswith("xl") else StableDiffusionPipeline)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    pipeline.scheduler.register_to_config(set_alpha_to_one=True)
    pipeline.scheduler.final_alpha_cumprod = torch.tensor(1.0)
    z = noise(1, 4, 8, 8)
    theirs = pipeline(
        "ab c",
        negative_prompt=negative or None,
        guidance_scale=scale,
        height=16,
        width=16,
        num_inference_steps=4,
        latents=z,
        output_type="latent",
    ).images
    ours = walked(load(folder).told("ab c", negative, scale), z, 4)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["stable_diffusion", "stable_diffusion_2", "stable_diffusion_xl"])
def test_it_regrows_under_a_prompt_and_without(kind: str, request: pytest.FixtureRequest) -> None:
    prior = load(request.getfixturevalue(kind))
    without, under = regrown(prior), regrown(prior.told("ab", "", 3.0))
    assert without.isfinite().all()
    assert under.isfinite().all()
    assert not torch.allclose(without, under)


def test_one_branch_is_enough_where_both_would_say_the_same(stable_diffusion: Path) -> None:
    prior = load(stable_diffusion)
    batches: list[int] = []
    prior._unet.register_forward_hook(lambda _module, inputs, _out: batches.append(len(inputs[0])))
    z = noise(2, 4, 8, 8)
    cases = [("a", "", 1.0), ("a", "a", 7.5), ("", "", 7.5), ("a", "b", 7.5)]
    made = [prior.told(*case).eps(z, T) for case in cases]
    assert batches == [2, 2, 2, 4]
    torch.testing.assert_close(made[2], prior.eps(z, T))


def test_what_is_guided_is_as_far_from_one_prediction_as_the_scale_says(stable_diffusion_xl: Path) -> None:
    prior, z = load(stable_diffusion_xl), noise(2, 4, 8, 8)
    with_it, without = prior.told("ab", "", 1.0).eps(z, T), prior.told("c", "", 1.0).eps(z, T)
    torch.testing.assert_close(
        prior.told("ab", "c", 4.0).eps(z, T), without + 4 * (with_it - without), rtol=1e-3, atol=1e-5
    )


def test_the_text_encoder_is_read_once_for_each_new_prompt_and_let_go(
    stable_diffusion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    embed = text.Text.embed
    monkeypatch.setattr(text.Text, "embed", lambda self, prompts: asked.append(list(prompts)) or embed(self, prompts))
    prior = load(stable_diffusion)
    for _ in range(2):
        prior.told("a", "", 7.5)
        prior.told("a", "b", 7.5)
    assert asked == [[""], ["a"], ["b"]]
    modules = [value for value in vars(prior).values() if isinstance(value, torch.nn.Module)]
    assert len(modules) == 2


def test_a_prompt_that_is_too_long_is_refused_and_not_cut(stable_diffusion: Path) -> None:
    prior = load(stable_diffusion)
    prior.told("a " * 75, "", 1.0)
    with pytest.raises(BadPrompt, match="76 tokens, and at most 75"):
        prior.told("a " * 76, "", 1.0)


def test_a_prior_without_a_text_encoder_takes_no_prompt(plain: Path) -> None:
    with pytest.raises(BadPrompt, match="no text encoder"):
        load(plain).told("a", "", 1.0)


def test_a_prediction_of_v_becomes_that_of_the_noise(stable_diffusion_2: Path) -> None:
    prior, z = load(stable_diffusion_2), noise(2, 4, 8, 8)
    tokens = prior._conditions[0].tokens.expand(2, -1, -1)
    v = prior._unet(z, T, encoder_hidden_states=tokens).sample
    ab = prior.alpha_bar[T][:, None, None, None]
    e = prior.eps(z, T)
    clean = (z - (1 - ab).sqrt() * e) / ab.sqrt()
    torch.testing.assert_close(clean, ab.sqrt() * z - (1 - ab).sqrt() * v, rtol=1e-3, atol=1e-3)


def test_a_schedule_without_any_signal_at_its_end_can_be_walked(stable_diffusion_2: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stable_diffusion_2, tmp_path / "prior"))
    edit(folder / "scheduler" / "scheduler_config.json", rescale_betas_zero_snr=True)
    prior, z = load(folder), noise(1, 4, 8, 8)
    assert 0 < prior.alpha_bar[-1] < 1e-7
    tokens = prior._conditions[0].tokens
    v = prior._unet(z, torch.tensor([999]), encoder_hidden_states=tokens).sample
    e, ab = prior.eps(z, torch.tensor([999])), float(prior.alpha_bar[-1])
    torch.testing.assert_close((z - (1 - ab) ** 0.5 * e) / ab**0.5, -v, rtol=0, atol=5e-3)
    assert regrown(prior).isfinite().all()


def test_xl_is_told_the_size_of_the_canvas_but_none_below_its_own(stable_diffusion_xl: Path) -> None:
    prior = load(stable_diffusion_xl)
    told: list[list[float]] = []
    prior._unet.register_forward_hook(
        lambda _module, _inputs, keywords, _out: told.append(keywords["added_cond_kwargs"]["time_ids"][0].tolist()),
        with_kwargs=True,
    )
    prior.eps(noise(1, 4, 16, 4), T[:1])
    assert told == [[32, 16, 0, 0, 32, 16]]


def test_xl_stands_on_zeros_without_a_prompt_unless_it_says_otherwise(
    stable_diffusion_xl: Path, tmp_path: Path
) -> None:
    assert float(load(stable_diffusion_xl)._conditions[0].tokens.abs().sum()) == 0
    folder = Path(shutil.copytree(stable_diffusion_xl, tmp_path / "prior"))
    edit(folder / "model_index.json", force_zeros_for_empty_prompt=False)
    assert float(load(folder)._conditions[0].tokens.abs().sum()) > 0


def test_plain_latent_diffusion_with_a_codebook(tmp_path: Path) -> None:
    """As CompVis published it: vqvae/ in place of vae/, three channels, an unconditional denoiser."""
    write_tiny_prior(tmp_path)
    shutil.rmtree(tmp_path / "vae")
    torch.manual_seed(0)
    VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        num_vq_embeddings=32,
        scaling_factor=0.5,
    ).save_pretrained(tmp_path / "vqvae")
    unet = json.loads((tmp_path / "unet" / "config.json").read_text())
    chosen = {name: value for name, value in unet.items() if not name.startswith("_")}
    UNet2DModel(**chosen | {"in_channels": 3, "out_channels": 3}).save_pretrained(tmp_path / "unet")
    prior = load(tmp_path)
    assert prior.latent_shape(16, 16) == (3, 8, 8)
    x = noise(1, 3, 16, 16).requires_grad_()
    z = prior.encode(x)
    theirs = VQModel.from_pretrained(tmp_path / "vqvae")
    torch.testing.assert_close(prior.decode(z), theirs(x).sample)
    (gradient,) = torch.autograd.grad(prior.decode(z).sum(), x)
    assert gradient.abs().sum() > 0
    assert regrown(prior).isfinite().all()
