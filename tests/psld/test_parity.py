"""`reference` against what the authors' code itself gave, where those files are at hand."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks import parity
from worker.priors.diffusers import DiffusersPrior

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared" / "golden"


@pytest.fixture(scope="module")
def golden() -> Path:
    if not GOLDEN.is_dir():
        pytest.skip(f"the runs of the authors' code are not at {GOLDEN}")
    return GOLDEN


@pytest.fixture(scope="module")
def prior(golden: Path) -> DiffusersPrior:
    return parity.load_prior(golden / "prior")


@pytest.mark.parametrize("name", ["sampler_20_batch1", "sampler_20_batch3"])
def test_every_step_of_20_is_theirs(golden: Path, prior: DiffusersPrior, name: str) -> None:
    errors = parity.compare(parity.load_case(golden / f"{name}.safetensors"), prior)
    assert len(errors) == 22
    assert max(errors.values()) < 1e-4  # measured: 2.5e-7


def test_the_first_of_1000_steps_are_theirs(golden: Path, prior: DiffusersPrior) -> None:
    """The file holds the end only; what lies between is worked out here from the description of their code."""

    case = parity.load_case(golden / "sampler_1000_batch1.safetensors")
    noise, expected = parity.draws(case), []
    z = next(noise)
    for t in (1000, 999, 998):
        z = step_of_theirs(prior, case, z, t, next(noise))
        expected.append(z)
    found = walked(case, prior, 3)
    for ours, theirs in zip(found, expected, strict=True):
        assert parity.relative(ours, theirs) < 1e-4  # measured: 2e-7
    assert parity.relative(found[0], case["start"]) > 1e-3  # a step is far longer than the tolerance


def step_of_theirs(prior: DiffusersPrior, case: dict[str, Tensor], z: Tensor, t: int, noise: Tensor) -> Tensor:
    """With 1,000 steps: time t is told for the level t - 1, and the next level is that of t - 2, or of 0."""
    return step_at(prior, case, z, t, prior.alpha_bar[t - 1], prior.alpha_bar[max(t - 2, 0)], noise)


def step_at(
    prior: DiffusersPrior, case: dict[str, Tensor], z: Tensor, t: int, ab: Tensor, ab_next: Tensor, noise: Tensor
) -> Tensor:
    """One step of theirs, written down again."""
    m, y = case["mask"], case["measurement"]
    z = z.clone().requires_grad_()
    e = prior.eps(z, torch.tensor([t] * len(z)))
    z0 = (z - (1 - ab).sqrt() * e) / ab.sqrt()
    x0 = prior.decode(z0)
    glued = prior.encode(y + x0 - m * x0)
    error = case["gamma"] * (glued - z0).norm() + case["omega"] * (m * x0 + case["sigma_y"] * noise - y).norm()
    return (ab_next.sqrt() * z0 + (1 - ab_next).sqrt() * e - torch.autograd.grad(error, z)[0]).detach()


def walked(case: dict[str, Tensor], prior: DiffusersPrior, count: int) -> list[Tensor]:
    """The latents after each of the first ``count`` steps of our sampler."""

    class Enough(Exception):
        pass

    def so_many() -> Iterator[Tensor]:
        draws = parity.draws(case)
        yield from (next(draws) for _ in range(count + 1))
        raise Enough

    watched = parity.Watched(prior)
    with pytest.raises(Enough):
        parity.run(case, watched, so_many())
    return watched.latents[1:]


@pytest.mark.slow
def test_the_end_of_1000_steps_is_theirs(golden: Path, prior: DiffusersPrior) -> None:
    errors = parity.compare(parity.load_case(golden / "sampler_1000_batch1.safetensors"), prior)
    assert max(errors.values()) < 1e-2  # measured: 2e-3


def test_the_command_prints_the_relative_error_last(golden: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.parity"]
    arguments = [str(golden / "sampler_20_batch1.safetensors"), str(golden / "prior")]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    assert last.startswith("relative error ")
    assert float(last.split()[-1]) < 1e-4


def test_a_run_that_is_not_theirs_ends_with_1(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = parity.load_case(golden / "sampler_20_batch1.safetensors")
    path = tmp_path / "other.safetensors"
    save_file(case | {"omega": case["omega"] * 1.001}, path)
    assert parity.main([str(path), str(golden / "prior")]) == 1
    assert float(capsys.readouterr().out.split()[-1]) > 1e-4


def test_a_case_that_lacks_something_ends_with_2_and_says_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "half.safetensors"
    save_file({name: torch.zeros(1) for name in parity.NEEDED if name != "start"}, path)
    with pytest.raises(SystemExit) as ended:
        parity.main([str(path), str(tmp_path)])
    assert ended.value.code == 2
    assert f"{path}: it lacks start" in capsys.readouterr().err


def tiny_case(
    prior: DiffusersPrior, batch: int, height: int, width: int, steps: int, **more: Tensor
) -> dict[str, Tensor]:
    """A case of any size, whose end is that of the description of their code below."""
    g = torch.Generator().manual_seed(1)
    case = {
        "image": torch.rand(batch, 3, height, width, generator=g) * 2 - 1,
        "mask": (torch.rand(1, 1, height, width, generator=g) < 0.4).float(),
        "start": torch.randn(batch, *prior.latent_shape(height, width), generator=g),
        "gamma": torch.tensor(0.3),
        "omega": torch.tensor(0.7),
        "sigma_y": torch.tensor(0.02),
        "steps": torch.tensor(steps),
        "noise_seed": torch.tensor(7),
    } | more
    case["measurement"] = case["image"] * case["mask"]
    times = list(range(1, 1001, 1000 // steps))
    drawn = parity.draws(case)
    z = next(drawn)
    for number in reversed(range(len(times))):
        levels = prior.alpha_bar[times[number]], prior.alpha_bar[times[number - 1] if number else 0]
        noise = next(drawn) if case["sigma_y"] > 0 else torch.zeros(())
        z = step_at(prior, case, z, times[number], *levels, noise)
    return case | {"final_latent": z, "final_image": prior.decode(z).detach()}


def saved(case: dict[str, Tensor], path: Path) -> Path:
    save_file({name: each.contiguous() for name, each in case.items()}, path)
    return path


@pytest.mark.parametrize(
    ("shape", "steps", "more"),
    [
        ((2, 32, 48), 30, {}),
        ((1, 64, 64), 7, {"gamma": torch.tensor(0.0)}),
        ((1, 32, 32), 10, {"sigma_y": torch.tensor(0.0)}),
    ],
    ids=["steps that do not divide the training", "no gluing", "no noise"],
)
def test_cases_of_other_sizes_steps_and_weights_are_run(
    golden: Path,
    prior: DiffusersPrior,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shape: tuple[int, int, int],
    steps: int,
    more: dict[str, Tensor],
) -> None:
    case = tiny_case(prior, *shape, steps, **more)
    if not case["sigma_y"]:
        del case["noise_seed"]
    doubled = {name: each.double() if each.is_floating_point() else each for name, each in case.items()}
    path = saved(doubled | {"comment": torch.zeros(2)}, tmp_path / "case.safetensors")
    assert parity.main([str(path), str(golden / "prior")]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "not used: comment"
    assert float(last.removeprefix("relative error ")) < 1e-4


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"gamma": torch.ones(2)}, "gamma must be one number, not 2 of them"),
        ({"gamma": torch.tensor(-1.0)}, "gamma and omega must not be negative"),
        ({"steps": torch.tensor(0)}, "steps must be at least 1, not 0"),
        ({"steps": torch.tensor(300)}, "reaches the time 1000"),
        ({"steps": torch.tensor(30)}, "step_noise must be 31 x 1 x 3 x 64 x 64, not 20 x 1 x 3 x 64 x 64"),
        ({"mask": torch.ones(1, 1, 32, 32)}, "mask must be 1 x 1 x 64 x 64, not 1 x 1 x 32 x 32"),
        ({"mask": torch.full((1, 1, 64, 64), 0.5)}, "must be 0 (hidden) or 1 (kept)"),
        ({"start": torch.zeros(1, 3, 16, 16)}, "start must be 1 x 4 x 16 x 16, not 1 x 3 x 16 x 16"),
        ({"final_latent": torch.zeros(2, 4, 16, 16)}, "final_latent must be 1 x 4 x 16 x 16"),
        ({"measurement": torch.zeros(3, 64, 64)}, "measurement must be (B, 3, H, W), not 3 x 64 x 64"),
        ({"measurement": torch.zeros(1, 3, 64, 60)}, "must be multiples of 8"),
        ({"measurement": torch.full((1, 3, 64, 64), torch.nan)}, "measurement holds NaN or infinity"),
        ({"start": torch.full((1, 4, 16, 16), 1e30)}, "values are not finite after step 1"),
    ],
)
def test_a_case_that_does_not_fit_ends_with_2_and_names_file_and_tensor(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Tensor], words: str
) -> None:
    case = parity.load_case(golden / "sampler_20_batch1.safetensors")
    path = saved(case | changed, tmp_path / "odd.safetensors")
    with pytest.raises(SystemExit) as ended:
        parity.main([str(path), str(golden / "prior")])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"{path}: " in said
    assert words in said


def test_a_file_that_is_no_case_ends_with_2_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text.safetensors"
    for content in (None, b"hello"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SystemExit) as ended:
            parity.main([str(path), str(tmp_path)])
        assert ended.value.code == 2
        assert str(path) in capsys.readouterr().err
