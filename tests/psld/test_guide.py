"""An autoencoder that stands for the prior's own along the walk."""

from collections import Counter
from typing import Any

import pytest
import torch
from gaussian_prior import ROTATION, correlated
from torch import Tensor

from worker.psld.coarse import sample_large
from worker.psld.operators import Inpaint
from worker.psld.sampler import Guidance, sample

SIDE = 4
N = 3 * SIDE**2


class Small:
    """Another linear autoencoder of the same latents, which counts what it is asked."""

    def __init__(self) -> None:
        self.decoder, self.encoder = 0.5 * ROTATION + 0.1, (0.7 * ROTATION.T).contiguous()
        self.asked: Counter[str] = Counter()

    def decode(self, z: Tensor) -> Tensor:
        self.asked["decode"] += 1
        return torch.einsum("ij,bjhw->bihw", self.decoder, z)

    def encode(self, x: Tensor) -> Tensor:
        self.asked["encode"] += 1
        return torch.einsum("ij,bjhw->bihw", self.encoder, x)


def left_half() -> Inpaint:
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., : SIDE // 2] = 1
    return Inpaint(mask)


def counted(prior: Any) -> Counter[str]:
    asked: Counter[str] = Counter()
    for name in ("decode", "encode"):
        own = getattr(prior, name)
        setattr(prior, name, lambda x, name=name, own=own: (asked.update([name]), own(x))[1])
    return asked


def test_a_guided_step_is_worked_out_by_hand_with_the_guides_autoencoder_and_ends_with_the_priors() -> None:
    prior, guide, operator = correlated(), Small(), left_half()
    y = operator.forward(torch.full((1, 3, SIDE, SIDE), 0.3))
    gamma, omega = 0.4, 0.9
    x = sample(prior, operator, y, [torch.Generator().manual_seed(0)], Guidance(1, gamma, omega), guide=guide)

    D, E = (torch.kron(mixing.double(), torch.eye(SIDE**2)) for mixing in (guide.decoder, guide.encoder))
    A = torch.diag(operator.mask.expand(1, 3, -1, -1).flatten().double())
    ab, identity = prior.alpha_bar[-1].double(), torch.eye(N, dtype=torch.float64)
    J = (identity - (1 - ab) * torch.linalg.inv(ab * prior.cov + (1 - ab) * identity)) / ab.sqrt()
    z = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).flatten().double()
    z0 = J @ (z - ab.sqrt() * prior.mean) + prior.mean
    r = A @ D @ z0 - y[0].flatten().double()
    to_z0 = E @ (D @ z0 - A.T @ r) - z0
    pull = omega * D.T @ A.T @ r / r.norm()
    pull += gamma * (E @ (D - A.T @ A @ D) - identity).T @ to_z0 / to_z0.norm()
    full = torch.kron(prior.decoder.double(), torch.eye(SIDE**2))
    torch.testing.assert_close(x[0].flatten(), (full @ (z0 - J.T @ pull)).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("paste", [0, 0.3, 1])
def test_the_priors_own_is_asked_for_start_finish_and_result_alone(paste: float) -> None:
    prior, guide, operator = correlated(), Small(), left_half()
    y = operator.forward(torch.full((1, 3, SIDE, SIDE), 0.3))
    own, start = counted(prior), torch.zeros(1, 3, SIDE, SIDE)
    how = Guidance(5, 0.4, 0.9, paste=paste, finish=3, enter=0.5)
    sample(prior, operator, y, [torch.Generator().manual_seed(0)], how, start=start, guide=guide)
    assert guide.asked == {"decode": 5, "encode": 5}
    assert own == {"encode": 1, "decode": 3 + 1}


def test_a_large_canvas_is_guided_in_both_walks() -> None:
    prior, guide = correlated(), Small()
    mask = torch.ones(1, 1, SIDE, SIDE)
    prior.native_size = SIDE
    own = counted(prior)
    y = Inpaint(mask).forward(torch.full((1, 3, SIDE, SIDE), 0.3))
    how = Guidance(4, 0.4, 0.9, enter=0.8)
    generators = [torch.Generator().manual_seed(0)]
    sample_large(prior, Inpaint(mask), y, generators, how, lambda _done, _steps: None, guide)
    assert own["decode"] == 2
    assert guide.asked["decode"] > 4
