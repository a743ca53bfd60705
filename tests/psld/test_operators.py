import math
from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from worker.psld.jpeg import Jpeg, tables
from worker.psld.operators import Inpaint, MotionBlur, Operator, downsample, gaussian_blur

SIDE = 12


def _mask(share: float) -> Tensor:
    return (torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < share).float()


OPERATORS: dict[str, Callable[[], Operator]] = {
    "inpaint": lambda: Inpaint(_mask(0.3)),
    "inpaint, all kept": lambda: Inpaint(_mask(1.1)),
    "gaussian blur": lambda: gaussian_blur(SIDE, SIDE, 1.5),
    "gaussian blur, wider than the image": lambda: gaussian_blur(SIDE, SIDE, 9.0),
    "downsample by 2": lambda: downsample(SIDE, SIDE, 2),
    "downsample by 4": lambda: downsample(SIDE, SIDE, 4),
    "motion blur, level": lambda: MotionBlur(5, 0.0),
    "motion blur, slanting": lambda: MotionBlur(8, 30.0),
    "motion blur of one pixel": lambda: MotionBlur(1, 45.0),
}
"""Every linear operator; the laws below hold for each."""
every_operator = pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())


def _dense(apply: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear map of images of a shape: column k is what it makes of the k-th unit image."""
    n = math.prod(shape)
    units = torch.eye(n).view(n, *shape)
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
    image = (3, SIDE, SIDE)
    measurement = tuple(operator.forward(torch.zeros(1, *image)).shape[1:])
    torch.testing.assert_close(_dense(operator.adjoint, measurement), _dense(operator.forward, image).T)


@every_operator
def test_the_step_is_one_over_the_squared_norm(make: Callable[[], Operator]) -> None:
    """By power iteration, which needs neither a matrix nor a theory."""
    operator = make()
    x = 1 + 0.1 * torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    for _ in range(200):
        x = operator.adjoint(operator.forward(x))
        x, squared = x / x.norm(), x.norm()
    assert operator.step * squared == pytest.approx(1, rel=1e-4)


def test_inpainting_keeps_where_the_mask_is_one() -> None:
    x = torch.full((1, 3, 2, 2), 7.0)
    mask = torch.tensor([[[[1, 0], [0, 1]]]])
    assert Inpaint(mask).forward(x)[0, 2].tolist() == [[7, 0], [0, 7]]


@pytest.mark.parametrize("mask", [torch.ones(4, 4), torch.ones(1, 3, 4, 4), torch.full((1, 1, 4, 4), 0.5)])
def test_what_is_no_mask_is_refused(mask: Tensor) -> None:
    with pytest.raises(ValueError, match="a mask must be"):
        Inpaint(mask)


WIDE = (16, 24)
PICTURE = torch.rand(2, 3, *WIDE, generator=torch.Generator().manual_seed(2)) * 2 - 1
ON_WIDE: dict[str, Callable[[], Operator]] = {
    "gaussian blur": lambda: gaussian_blur(*WIDE, 2.0),
    "downsample": lambda: downsample(*WIDE, 4),
    "motion blur": lambda: MotionBlur(9, 70.0),
}


@pytest.mark.parametrize("make", ON_WIDE.values(), ids=ON_WIDE.keys())
def test_the_adjoint_moves_across_the_inner_product_where_sides_differ(make: Callable[[], Operator]) -> None:
    operator, Ax = make(), make().forward(PICTURE)
    w = torch.randn(Ax.shape, generator=torch.Generator().manual_seed(1))
    gap = (Ax * w).sum() - (PICTURE * operator.adjoint(w)).sum()
    assert abs(gap) / (Ax.norm() * w.norm()) < 1e-5


@pytest.mark.parametrize("make", ON_WIDE.values(), ids=ON_WIDE.keys())
def test_a_flat_image_stays_flat(make: Callable[[], Operator]) -> None:
    flat = torch.full((1, 3, *WIDE), 0.7)
    torch.testing.assert_close(make().forward(flat), torch.tensor(0.7).expand(make().forward(flat).shape))


@pytest.mark.parametrize("make", [*ON_WIDE.values(), partial(Jpeg, 20)], ids=[*ON_WIDE, "jpeg"])
def test_a_row_is_measured_by_itself(make: Callable[[], Operator]) -> None:
    together = make().forward(PICTURE)
    for row in range(2):
        torch.testing.assert_close(together[row : row + 1], make().forward(PICTURE[row : row + 1]))


def _by_pillow(size: tuple[int, int]) -> Tensor:
    planes = [Image.fromarray(plane.numpy()) for plane in PICTURE.flatten(0, 1)]
    resized = [torch.from_numpy(np.array(plane.resize(size, Image.Resampling.BICUBIC))) for plane in planes]
    return torch.stack(resized).view(2, 3, size[1], size[0])


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_downsampling_is_pillows_bicubic(factor: int) -> None:
    expected = _by_pillow((WIDE[1] // factor, WIDE[0] // factor))
    torch.testing.assert_close(downsample(*WIDE, factor).forward(PICTURE), expected, rtol=0, atol=1e-6)


def test_a_side_that_the_factor_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 5, not 16"):
        downsample(*WIDE, 5)


def test_gaussian_blur_spreads_a_point_by_its_sigma() -> None:
    point = torch.zeros(1, 3, 64, 48)
    point[..., 30, 20] = 1
    spread = gaussian_blur(64, 48, 3.0).forward(point)[0, 0].double()
    assert spread.sum() == pytest.approx(1, abs=1e-6)
    rows, columns = torch.arange(64).double(), torch.arange(48).double()
    assert (spread.sum(1) @ (rows - 30) ** 2).sqrt() == pytest.approx(3, rel=0.01)
    assert (spread.sum(0) @ (columns - 20) ** 2).sqrt() == pytest.approx(3, rel=0.01)


def test_gaussian_blur_mirrors_the_edges() -> None:
    mirrored = torch.cat([PICTURE.flip(-1), PICTURE, PICTURE.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored.flip(-2), mirrored, mirrored.flip(-2)], dim=-2)
    middle = gaussian_blur(48, 72, 3.0).forward(mirrored)[..., 16:32, 24:48]
    torch.testing.assert_close(gaussian_blur(*WIDE, 3.0).forward(PICTURE), middle)


@pytest.mark.parametrize(("angle", "down", "right"), [(0.0, 0, 1), (90.0, 1, 0), (45.0, -1, 1), (135.0, 1, 1)], ids=str)
def test_motion_blur_spreads_a_point_along_its_line(angle: float, down: int, right: int) -> None:
    point = torch.zeros(1, 3, 31, 31)
    point[..., 15, 15] = 1
    spread = MotionBlur(9, angle).forward(point)[0, 0]
    places = torch.cartesian_prod(torch.arange(-15, 16), torch.arange(-15, 16)).double()
    line = torch.tensor([down, right]).double() / (down**2 + right**2) ** 0.5
    along = places @ line
    aside = places @ torch.tensor([line[1], -line[0]])
    weights = spread.flatten().double()
    assert (weights @ along**2).sqrt() == pytest.approx((80 / 12) ** 0.5, rel=0.05)
    assert (weights @ aside**2).sqrt() < 0.5


def test_a_level_motion_blur_is_a_running_mean() -> None:
    expected = torch.stack([PICTURE.roll(shift, dims=-1) for shift in (-1, 0, 1)]).mean(0)
    torch.testing.assert_close(MotionBlur(3, 0.0).forward(PICTURE), expected)


def test_a_motion_blur_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        MotionBlur(0, 0.0)


def _smooth(height: int, width: int, contrast: float) -> Tensor:
    """A colourful picture without sharp edges, (1, 3, height, width) within +-contrast."""
    noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(4))
    blurred = gaussian_blur(height, width, 3.0).forward(noise)
    return contrast * blurred / blurred.abs().max()


def _levels(x: Tensor) -> np.ndarray:
    return ((x[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def _file(x: Tensor, quality: int) -> Image.Image:
    data = BytesIO()
    Image.fromarray(_levels(x)).save(data, "JPEG", quality=quality, subsampling=0)
    return Image.open(data)


@given(quality=st.integers(1, 100))
def test_jpeg_divides_as_the_library_does(quality: int) -> None:
    written = _file(torch.zeros(1, 3, 8, 8), quality).quantization
    ours = tables(quality).int().flatten(1).tolist()
    assert [written[0], written[1], written[1]] == ours


@pytest.mark.parametrize(("colour", "most"), [(False, 0.5), (True, 1.0)], ids=["grey", "colour"])
@pytest.mark.parametrize(("quality", "lost"), [(5, 7), (20, 2.5), (60, 1)])
def test_jpeg_is_what_a_real_file_gives_back(quality: int, lost: float, colour: bool, most: float) -> None:
    """Up to the whole levels that a real file rounds to on both ways, all in levels of 255."""
    picture = _smooth(96, 96, 0.9)
    x = picture if colour else picture.mean(dim=1, keepdim=True).expand_as(picture)
    real = np.asarray(_file(x, quality)).astype(float)
    ours = ((Jpeg(quality).forward(x)[0].permute(1, 2, 0) + 1) * 127.5).numpy()
    assert np.abs(ours - real).mean() < most
    assert np.abs(_levels(x) - real).mean() > lost


@pytest.mark.parametrize("quality", [5, 20, 60, 100])
def test_jpeg_of_jpeg_is_the_same_again(quality: int) -> None:
    operator = Jpeg(quality)
    y = operator.forward(_smooth(48, 64, 0.7))
    assert y.abs().max() <= 1
    assert (operator.forward(y) - y).norm() / y.norm() < 1e-4  # so r = 0 at x0 = y


def test_where_jpeg_overshoots_black_or_white_it_is_nearly_the_same_again() -> None:
    operator = Jpeg(20)
    y = operator.forward(_smooth(48, 64, 3.0))
    assert y.abs().max() > 1
    assert (operator.forward(y) - y).norm() / y.norm() < 0.05


def test_in_gradients_jpeg_rounds_nothing() -> None:
    x = _smooth(16, 16, 0.7).requires_grad_()
    w = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((Jpeg(10).forward(x) * w).sum(), x)
    torch.testing.assert_close(gradient, w, rtol=0, atol=1e-4)


def test_gluing_with_jpeg_leaves_the_estimate_only_what_jpeg_drops() -> None:
    operator, x0, truth = Jpeg(10), _smooth(16, 16, 0.7).requires_grad_(), -_smooth(16, 16, 0.5)
    y = operator.forward(truth)
    glued = x0 - operator.step * operator.adjoint(operator.forward(x0) - y)
    torch.testing.assert_close(glued, y + (x0 - operator.forward(x0)))
    (gradient,) = torch.autograd.grad(glued.sum(), x0)
    assert gradient.abs().max() < 1e-4


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_a_jpeg_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 100"):
        Jpeg(quality)


def test_jpeg_of_sides_that_hold_no_whole_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8, not 12 x 16"):
        Jpeg(50).forward(torch.zeros(1, 3, 12, 16))
