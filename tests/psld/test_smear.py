"""What is measured, smeared over what is not."""

import pytest
import torch
from tile_prior import noise

from worker.psld.coarse import Coarse
from worker.psld.jpeg import Jpeg
from worker.psld.operators import Inpaint, MotionBlur, Operator, downsample, gaussian_blur
from worker.psld.smear import smear

SIDES = (48, 40)
MASK = Inpaint(noise(2, 1, *SIDES) > 1.5)
OPERATORS = [MASK, gaussian_blur(*SIDES, 1.5), downsample(*SIDES, 8), MotionBlur(5, 30), Jpeg(90)]


@pytest.mark.parametrize("operator", [*OPERATORS, Coarse(MASK, SIDES, (24, 24), torch.device("cpu"))])
def test_an_even_picture_is_smeared_to_itself(operator: Operator) -> None:
    x = torch.full((2, 3, *SIDES), 0.4)
    if isinstance(operator, Coarse):
        x = torch.full((2, 3, 24, 24), 0.4)
    smeared = smear(operator, operator.forward(x))
    assert smeared.shape == x.shape
    assert torch.allclose(smeared, x, atol=0.02)


def test_kept_pixels_stay_and_hidden_ones_are_like_those_nearby() -> None:
    x = torch.linspace(-1, 1, SIDES[1]).expand(2, 3, *SIDES)
    smeared = smear(MASK, MASK.forward(x))
    kept = MASK.measured.bool().expand_as(x)
    assert torch.equal(smeared[kept], x[kept])
    assert (~kept).float().mean() > 0.05
    assert (smeared - x)[~kept].abs().mean() < 0.12  # of a grey picture: 0.5


def test_what_is_known_at_one_end_reaches_the_other() -> None:
    left = Inpaint((torch.arange(SIDES[1]) < 3).expand(1, 1, *SIDES))
    assert (smear(left, left.forward(torch.ones(1, 3, *SIDES))) > 0.99).all()


def test_where_nothing_is_known_at_all_it_is_grey() -> None:
    nothing = Inpaint(torch.zeros(1, 1, *SIDES))
    assert (smear(nothing, torch.zeros(1, 3, *SIDES)) == 0).all()


def test_a_row_does_not_depend_on_its_batch() -> None:
    y = MASK.forward(noise(2, 3, *SIDES).tanh())
    together = smear(MASK, y)
    for row in range(2):
        alone = Inpaint(MASK.measured[row : row + 1])
        assert torch.allclose(smear(alone, y[row : row + 1])[0], together[row], atol=1e-6)
