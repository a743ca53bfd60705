from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from worker.psld.operators import Inpaint, Operator

SIDE = 12


def _mask(share: float) -> Tensor:
    return (torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < share).float()


OPERATORS: dict[str, Callable[[], Operator]] = {
    "inpaint": lambda: Inpaint(_mask(0.3)),
    "inpaint, all kept": lambda: Inpaint(_mask(1.1)),
}
every_operator = pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())


def _dense(apply: Callable[[Tensor], Tensor]) -> Tensor:
    """The matrix of a linear map of images: column k is what it makes of the k-th unit image."""
    n = 3 * SIDE * SIDE
    units = torch.eye(n).view(n, 3, SIDE, SIDE)
    return torch.cat([apply(unit[None]).flatten(1) for unit in units]).T


@every_operator
@pytest.mark.parametrize("seed", range(5))
def test_the_adjoint_moves_across_the_inner_product(make: Callable[[], Operator], seed: int) -> None:
    operator = make()
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    Ax = operator.forward(x)
    w = torch.randn(Ax.shape, generator=generator)
    gap = (Ax * w).sum() - (x * operator.adjoint(w)).sum()
    assert abs(gap) / (Ax.norm() * w.norm()) < 1e-5


@every_operator
def test_as_matrices_the_adjoint_is_the_transpose(make: Callable[[], Operator]) -> None:
    operator = make()
    torch.testing.assert_close(_dense(operator.adjoint), _dense(operator.forward).T)


@every_operator
def test_the_step_is_one_over_the_squared_norm(make: Callable[[], Operator]) -> None:
    operator = make()
    assert operator.step * torch.linalg.matrix_norm(_dense(operator.forward), ord=2) ** 2 == pytest.approx(1, rel=1e-4)


def test_inpainting_keeps_where_the_mask_is_one() -> None:
    x = torch.full((1, 3, 2, 2), 7.0)
    mask = torch.tensor([[[[1, 0], [0, 1]]]])
    assert Inpaint(mask).forward(x)[0, 2].tolist() == [[7, 0], [0, 7]]


@pytest.mark.parametrize("mask", [torch.ones(4, 4), torch.ones(1, 3, 4, 4), torch.full((1, 1, 4, 4), 0.5)])
def test_what_is_no_mask_is_refused(mask: Tensor) -> None:
    with pytest.raises(ValueError, match="a mask must be"):
        Inpaint(mask)
