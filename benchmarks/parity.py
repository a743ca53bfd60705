"""Does `reference` do what the authors' code did? `python -m benchmarks.parity CASE.safetensors PRIOR_FOLDER`

A case is one run of theirs with every random draw: image (B, 3, H, W), mask (1, 1, H, W), measurement, start
(B, C, h, w), gamma, omega, sigma_y, steps, final_latent, final_image; step_noise (steps, B, 3, H, W), or the
noise_seed that draws it; and, where there is room, latents_after_each_step. The prior's folder is in the format of
diffusers; without a scheduler/ it has Stable Diffusion's noise levels.

Prints the relative error of each step that the case holds, and last the largest of all. Ends with 0 within the
tolerance (1e-4 up to 100 steps, 1e-2 beyond, where rounding has grown), with 1 over it, and with 2 for bad files. What
a case holds beyond that is named and not used.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from worker.priors.diffusers import BadPrior, DiffusersPrior, load
from worker.psld.operators import ReferenceInpaint
from worker.psld.prior import LatentPrior
from worker.psld.sampler import REFERENCE, Guidance, NumericalFault, sample

NUMBERS = ("gamma", "omega", "sigma_y", "steps")
NEEDED = ("mask", "measurement", "start", *NUMBERS, "final_latent", "final_image")
KNOWN = {*NEEDED, "image", "step_noise", "noise_seed", "latents_after_each_step"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("prior", type=Path)
    arguments = parser.parse_args(argv)
    try:
        case = load_case(arguments.case)
        prior = load_prior(arguments.prior)
        check(case, prior)
        errors = compare(case, prior)
    except (OSError, BadPrior) as error:
        parser.error(str(error))
    except (SafetensorError, ValueError, NumericalFault) as error:
        parser.error(f"{arguments.case}: {error}")
    if unknown := sorted(case.keys() - KNOWN):
        print(f"not used: {', '.join(unknown)}")
    for name, found in errors.items():
        print(f"{name:16} {found:.2e}")
    worst = max(errors.values())
    print(f"relative error {worst:.2e}")
    return int(not worst < tolerance(case))


def load_case(path: Path) -> dict[str, Tensor]:
    """The tensors of a case, in float32. Raises OSError, SafetensorError, and ValueError where something is missing."""
    case = {name: each.float() if each.is_floating_point() else each for name, each in load_file(path).items()}
    missing = [name for name in NEEDED if name not in case]
    noiseless = "sigma_y" in case and not case["sigma_y"].any()
    if not noiseless and not {"step_noise", "noise_seed"} & case.keys():
        missing.append("step_noise or noise_seed")
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return case


def check(case: Mapping[str, Tensor], prior: LatentPrior) -> None:
    """Raises ValueError where the tensors of a case do not fit each other or the prior, with the name of the first."""
    for name in (*NUMBERS, *(each for each in ("noise_seed",) if each in case)):
        if case[name].numel() != 1:
            raise ValueError(f"{name} must be one number, not {_sides(case[name].shape)} of them")
    y = case["measurement"]
    if y.ndim != 4 or y.shape[1] != 3 or not len(y):
        raise ValueError(f"measurement must be (B, 3, H, W), not {_sides(y.shape)}")
    batch, _, *sides = y.shape
    latents = batch, *prior.latent_shape(*sides)
    steps = len(guidance(case).path(prior.alpha_bar))
    shapes = {"mask": (1, 1, *sides), "start": latents, "final_latent": latents, "final_image": tuple(y.shape)}
    for name, shape in shapes.items():
        if case[name].shape != shape:
            raise ValueError(f"{name} must be {_sides(shape)}, not {_sides(case[name].shape)}")
    for name, shape, least in (("step_noise", y.shape, steps), ("latents_after_each_step", latents, 0)):
        if name in case and (case[name].shape[1:] != shape or len(case[name]) < least):
            raise ValueError(f"{name} must be {_sides((steps, *shape))}, not {_sides(case[name].shape)}")
    for name in KNOWN & case.keys():
        if not case[name].isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "none"


def load_prior(folder: Path) -> DiffusersPrior:
    """The prior of a folder. Raises BadPrior."""
    return load(folder, alpha_bar=None if (folder / "scheduler").is_dir() else stable_diffusion_levels())


def stable_diffusion_levels() -> Tensor:
    """alpha_bar (1000,): betas whose square roots are evenly spaced, multiplied up in float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def tolerance(case: Mapping[str, Tensor]) -> float:
    return 1e-4 if int(case["steps"]) <= 100 else 1e-2


def compare(case: Mapping[str, Tensor], prior: LatentPrior) -> dict[str, float]:
    """Run the case and return relative errors: of the latents after each step, as far as known, and of the end."""
    watched = Watched(prior)
    image = run(case, watched, draws(case))
    latents = watched.latents[1:]
    known = case.get("latents_after_each_step", ())
    errors = {f"step {k}": relative(z, z_true) for k, (z, z_true) in enumerate(zip(latents, known, strict=False), 1)}
    errors["final latent"] = relative(latents[-1], case["final_latent"])
    errors["final image"] = relative(image, case["final_image"])
    return errors


def run(case: Mapping[str, Tensor], prior: LatentPrior, recorded: Iterator[Tensor]) -> Tensor:
    """The image of our sampler with the case's draws, in their order."""
    return sample(
        prior,
        ReferenceInpaint(case["mask"]),
        case["measurement"],
        [torch.Generator()] * len(case["start"]),
        guidance(case),
        draw=lambda _generators, _shape: next(recorded),
    )


def guidance(case: Mapping[str, Tensor]) -> Guidance:
    gamma, omega, sigma_y = (float(case[name]) for name in ("gamma", "omega", "sigma_y"))
    return Guidance(int(case["steps"]), gamma, omega, fresh_noise=sigma_y, conventions=REFERENCE)


def draws(case: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The start, then the noise of each step."""
    yield case["start"]
    if "step_noise" in case:
        yield from case["step_noise"]
    elif "noise_seed" in case:
        generator = torch.Generator().manual_seed(int(case["noise_seed"]))
        while True:
            yield torch.randn(case["measurement"].shape, generator=generator)


def relative(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


class Watched:
    """A prior that notes each latent that comes by: before each step, and the one that is decoded last."""

    def __init__(self, prior: LatentPrior) -> None:
        self.latents: list[Tensor] = []
        self.alpha_bar, self.device = prior.alpha_bar, prior.device
        self.multiple, self.native_size = prior.multiple, prior.native_size
        self.encode, self.latent_shape = prior.encode, prior.latent_shape
        self._prior = prior

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        self.latents.append(z.detach().clone())
        return self._prior.eps(z, t)

    def decode(self, z: Tensor) -> Tensor:
        if not z.requires_grad:
            self.latents.append(z.clone())
        return self._prior.decode(z)


if __name__ == "__main__":
    sys.exit(main())
