"""Other ways to make new images of old ones, to compare with: SDEdit, and inpainting by prompt."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from worker.psld.operators import Inpaint
from worker.psld.prior import LatentPrior
from worker.psld.sampler import Guidance, sample

Picture = NDArray[np.float32]

_PIPELINE: Any = StableDiffusionInpaintPipeline
_SCHEDULER: Any = DDIMScheduler

RECIPES = ("sdedit", "inpaint_pipeline")


def sdedit(prior: LatentPrior, x: Picture, seed: int, *, steps: int = 40, strength: float = 0.5) -> Picture:
    """The whole picture (3, H, W), noised to a share of the way and walked back, whatever is labelled in it.

    Meng et al., SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations (2022).
    """
    whole = torch.from_numpy(x)[None].to(prior.device)
    nothing = Inpaint(torch.zeros_like(whole[:, :1]))
    how = Guidance(steps, 0, 0, enter=strength)
    made = sample(prior, nothing, torch.zeros_like(whole), [torch.Generator().manual_seed(seed)], how, start=whole)
    edited: Picture = made[0].cpu().numpy()
    return edited


def inpaint_pipeline(
    prior: Any,
    x: Picture,
    keep: NDArray[np.bool_],
    seed: int,
    *,
    steps: int = 50,
    erode: int = 4,
    told: Mapping[str, Any],
) -> Picture:
    """`StableDiffusionInpaintPipeline` on what is hidden of a picture (3, H, W), less a rim of `erode` pixels around
    what `keep` (H, W) keeps: its mask has a latent's resolution, and would else reach into it.

    `prior` is a `DiffusersPrior`; `told` are prompt, negative and scale.
    """
    if prior._text is None:
        raise SystemExit("inpainting by prompt needs a Stable Diffusion prior: name one with --prior")
    mask = binary_erosion(~keep, iterations=erode) if erode else ~keep
    negative, prompt = prior._embedded([told["negative"], told["prompt"]])
    pipeline = _PIPELINE(
        vae=prior._vae,
        text_encoder=None,
        tokenizer=None,
        unet=prior._unet,
        scheduler=_SCHEDULER(
            trained_betas=_betas(prior),
            prediction_type="epsilon" if prior._levels is None else "v_prediction",
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt_embeds=prompt.tokens,
        negative_prompt_embeds=negative.tokens,
        guidance_scale=told["scale"],
        image=torch.from_numpy((x + 1) / 2)[None].to(prior.device),
        mask_image=torch.from_numpy(mask.astype(np.float32))[None, None].to(prior.device),
        height=x.shape[1],
        width=x.shape[2],
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
    ).images[0]
    painted: Picture = np.moveaxis(made, 2, 0).astype(np.float32) * 2 - 1
    return painted


def _betas(prior: LatentPrior) -> NDArray[np.float32]:
    levels = prior.alpha_bar.double()
    before = torch.cat([torch.ones(1, dtype=torch.float64), levels[:-1]])
    betas: NDArray[np.float32] = (1 - levels / before).float().cpu().numpy()
    return betas
