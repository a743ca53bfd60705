from pathlib import Path

import pytest
from drawn import run, settings
from tiny_prior import write_tiny_prior
from tiny_stable_diffusion import write_tiny_stable_diffusion


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior with random weights, to begin with: a step of it takes milliseconds."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_prior(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that ran to its end."""
    folder = tmp_path_factory.mktemp("finished")
    run(folder, settings(), init=tiny)
    return folder


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion, to adapt."""
    folder = tmp_path_factory.mktemp("stable-diffusion")
    write_tiny_stable_diffusion(folder)
    return folder
