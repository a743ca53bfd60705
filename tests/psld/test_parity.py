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
    ab, ab_next = prior.alpha_bar[t - 1], prior.alpha_bar[max(t - 2, 0)]
    m, y = case["mask"], case["measurement"]
    z = z.clone().requires_grad_()
    e = prior.eps(z, torch.tensor([t]))
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
    assert f"{path} lacks start" in capsys.readouterr().err
