"""The sampler on a prior whose noise predictor is exact, so that what must come out is known."""

import itertools
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from gaussian_prior import ROTATION, GaussianPrior, correlated
from torch import Tensor

from worker.psld.jpeg import Jpeg
from worker.psld.operators import Inpaint, MotionBlur, Operator, ReferenceInpaint, downsample, gaussian_blur
from worker.psld.prior import LatentPrior
from worker.psld.sampler import (
    REFERENCE,
    Guidance,
    NumericalFault,
    draw,
    guided_step,
    measure,
    pasted_step,
    polish,
    sample,
)

SIDE = 4
N = 3 * SIDE * SIDE
UNGUIDED = Guidance(steps=200, gamma=0, omega=0)


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def left_half() -> Inpaint:
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., : SIDE // 2] = 1
    return Inpaint(mask)


def everything() -> Inpaint:
    return Inpaint(torch.ones(1, 1, SIDE, SIDE))


def images(prior: GaussianPrior, count: int, seed: int = 9) -> Tensor:
    """True images of the prior, (count, 3, side, side)."""
    n = len(prior.mean)
    noise = torch.randn(count, n, generator=torch.Generator().manual_seed(seed))
    z = prior.mean + noise @ torch.linalg.cholesky(prior.cov).T
    side = round((n / 3) ** 0.5)
    return prior.decode(z.view(count, 3, side, side))


def free(prior: LatentPrior, seeds: Sequence[int], guidance: Guidance = UNGUIDED) -> Tensor:
    return sample(prior, everything(), torch.zeros(len(seeds), 3, SIDE, SIDE), seeded(seeds), guidance)


def closed_form(prior: GaussianPrior, seeds: Sequence[int]) -> Tensor:
    """Where the probability flow carries the start noise: each axis keeps its distance to the mean in deviations."""
    start = torch.stack([torch.randn(3, SIDE, SIDE, generator=g) for g in seeded(seeds)]).flatten(1).double()
    variances, axes = torch.linalg.eigh(prior.cov.double())
    ab = prior.alpha_bar[-1].double()
    deviations = (start - ab.sqrt() * prior.mean) @ axes / (ab * variances + 1 - ab).sqrt()
    z = prior.mean + (deviations * variances.sqrt()) @ axes.T
    return prior.decode(z.float().view(-1, 3, SIDE, SIDE))


def test_without_guidance_the_walk_is_the_probability_flow() -> None:
    prior, seeds = correlated(), range(8)
    errors = [
        (free(prior, seeds, Guidance(steps, 0, 0)) - closed_form(prior, seeds)).abs().max().item()
        for steps in (50, 200, 1000)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_without_guidance_samples_have_the_priors_mean_and_covariance(eta: float) -> None:
    prior, count = correlated(), 1000
    x = free(prior, range(count), Guidance(200, 0, 0, eta))
    z = prior.encode(x).flatten(1)
    standard_error = prior.cov.diag().sqrt() / count**0.5
    assert ((z.mean(0) - prior.mean).abs() < 5 * standard_error).all()
    assert torch.linalg.matrix_norm(z.T.cov() - prior.cov) / torch.linalg.matrix_norm(prior.cov) < 0.15


@pytest.mark.parametrize("denoiser_gradient", [True, False])
@pytest.mark.parametrize(("gamma", "omega"), [(0.0, 0.7), (0.7, 0.0), (0.4, 0.9)])
def test_a_step_is_the_estimate_less_the_gradient_worked_out_by_hand(
    gamma: float, omega: float, denoiser_gradient: bool
) -> None:
    # A lossy autoencoder (E D z = z / 2): with a lossless one the sign inside the gluing would not show.
    prior = correlated()
    prior = GaussianPrior(prior.mean, prior.cov, ROTATION, ROTATION.T.contiguous() / 2)
    operator = left_half()
    y = operator.forward(images(prior, 3))
    guidance = Guidance(1, gamma, omega, denoiser_gradient=denoiser_gradient)
    x = sample(prior, operator, y, seeded(range(3)), guidance)

    D, E = (torch.kron(mixing.double(), torch.eye(SIDE**2)) for mixing in (prior.decoder, prior.encoder))
    A = torch.diag(operator.mask.expand(1, 3, -1, -1).flatten().double())
    ab, identity = prior.alpha_bar[-1].double(), torch.eye(N, dtype=torch.float64)
    J = (identity - (1 - ab) * torch.linalg.inv(ab * prior.cov + (1 - ab) * identity)) / ab.sqrt()  # dz0 / dz
    for row, generator in enumerate(seeded(range(3))):
        z = torch.randn(3, SIDE, SIDE, generator=generator).flatten().double()
        z0 = J @ (z - ab.sqrt() * prior.mean) + prior.mean
        r = A @ D @ z0 - y[row].flatten().double()
        to_z0 = E @ (D @ z0 - A.T @ r) - z0
        pull = omega * D.T @ A.T @ r / r.norm()
        pull += gamma * (E @ (D - A.T @ A @ D) - identity).T @ to_z0 / to_z0.norm()
        pull = J.T @ pull if denoiser_gradient else pull
        torch.testing.assert_close(x[row].flatten(), (D @ (z0 - pull)).float(), rtol=1e-4, atol=1e-5)


def test_a_pasted_step_is_the_estimate_with_the_measurement_glued_in_worked_out_by_hand() -> None:
    prior = correlated()
    prior = GaussianPrior(prior.mean, prior.cov, ROTATION, ROTATION.T.contiguous() / 2)
    operator = left_half()
    y = operator.forward(images(prior, 3))
    x = sample(prior, operator, y, seeded(range(3)), Guidance(1, 0, 0, paste=1))

    D, E = (torch.kron(mixing.double(), torch.eye(SIDE**2)) for mixing in (prior.decoder, prior.encoder))
    A = torch.diag(operator.mask.expand(1, 3, -1, -1).flatten().double())
    ab, identity = prior.alpha_bar[-1].double(), torch.eye(N, dtype=torch.float64)
    J = (identity - (1 - ab) * torch.linalg.inv(ab * prior.cov + (1 - ab) * identity)) / ab.sqrt()
    for row, generator in enumerate(seeded(range(3))):
        z = torch.randn(3, SIDE, SIDE, generator=generator).flatten().double()
        x0 = D @ (J @ (z - ab.sqrt() * prior.mean) + prior.mean)
        g = E @ (x0 - A.T @ (A @ x0 - y[row].flatten().double()))
        torch.testing.assert_close(x[row].flatten(), (D @ g).float(), rtol=1e-4, atol=1e-5)


def test_pasted_walks_end_with_what_is_kept_and_with_what_belongs_to_it() -> None:
    prior, operator = correlated(), left_half()
    true = images(prior, 200)
    y = operator.forward(true)
    x = sample(prior, operator, y, seeded(range(200)), Guidance(50, 0, 0, eta=1.0, paste=1))
    assert torch.allclose(operator.forward(x), y, atol=1e-3)
    alone = sample(prior, operator, y, seeded(range(200)), Guidance(50, 0, 0, eta=1.0))
    hidden = 1 - operator.mask
    assert ((x - true) * hidden).square().mean() < 0.8 * ((alone - true) * hidden).square().mean()


@pytest.mark.parametrize(("paste", "pasted"), [(0, 0), (0.359, 1), (0.36, 2), (0.8, 4), (1, 5)])
def test_a_walk_pulls_first_and_pastes_in_the_last_share_of_the_time(paste: float, pasted: int) -> None:
    prior, operator = correlated(), left_half()
    y = operator.forward(images(prior, 2))
    guidance = Guidance(5, 0.4, 0.9, eta=1.0, enter=0.9, paste=paste)
    start = images(prior, 2)
    x = sample(prior, operator, y, seeded(range(2)), guidance, start=start)

    generators = seeded(range(2))
    drawn = partial(draw, generators)
    path = guidance.path(prior.alpha_bar)
    z = path[0].ab ** 0.5 * prior.encode(start) + (1 - path[0].ab) ** 0.5 * drawn((3, SIDE, SIDE))
    for done, step in enumerate(path):
        take = pasted_step if done >= 5 - pasted else guided_step
        z = take(prior, operator, y, z, step, guidance, drawn)
    torch.testing.assert_close(x, prior.decode(z))


BROAD = 8
OTHERS: dict[str, Operator] = {
    "gaussian blur": gaussian_blur(BROAD, BROAD, 1.0),
    "motion blur": MotionBlur(3, 20.0),
    "downsample": downsample(BROAD, BROAD, 4),
    "jpeg": Jpeg(5),
}


@pytest.mark.parametrize("operator", OTHERS.values(), ids=OTHERS)
def test_whatever_the_operator_guidance_ends_near_what_was_measured(operator: Operator) -> None:
    prior = correlated(BROAD)
    y = operator.forward(images(prior, 4))

    def residual(guidance: Guidance) -> Tensor:
        return (operator.forward(sample(prior, operator, y, seeded(range(4)), guidance)) - y).flatten(1).norm(dim=1)

    free = residual(Guidance(200, 0, 0))
    assert (residual(Guidance(200, 0.05, 0.1)) < 0.25 * free).all()
    assert (residual(Guidance(50, 0, 0, eta=1.0, paste=1)) < 0.25 * free).all()


def test_with_everything_kept_guidance_ends_at_the_measurement() -> None:
    prior = correlated()
    y = images(prior, 4)
    before = (free(prior, range(4)) - y).flatten(1).norm(dim=1)
    after = (sample(prior, everything(), y, seeded(range(4)), Guidance(200, 0.05, 0.1)) - y).flatten(1).norm(dim=1)
    assert (after < 0.1 * before).all()


def test_kept_pixels_come_nearer_as_guidance_grows() -> None:
    prior, operator = correlated(), left_half()
    y = operator.forward(images(prior, 16))
    errors = [
        (operator.forward(sample(prior, operator, y, seeded(range(16)), Guidance(100, omega / 5, omega))) - y).norm()
        for omega in (0.0, 0.02, 0.05, 0.1, 0.2)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


@pytest.mark.parametrize("seed", [9, 10, 11])
def test_hidden_pixels_follow_what_the_kept_ones_tell_of_them(seed: int) -> None:
    prior, operator, count = correlated(), left_half(), 128
    truth = images(prior, 1, seed)
    x = sample(
        prior,
        operator,
        operator.forward(truth).expand(count, -1, -1, -1),
        seeded(range(count)),
        Guidance(200, 0.02, 0.1),
    ).flatten(1)

    D = torch.kron(prior.decoder, torch.eye(SIDE**2))
    mean, cov = D @ prior.mean, D @ prior.cov @ D.T
    k = operator.mask.expand(1, 3, -1, -1).flatten().bool()
    regression = torch.linalg.solve(cov[k][:, k], cov[k][:, ~k]).T
    expected = mean[~k] + regression @ (truth.flatten()[k] - mean[k])
    spread = (cov[~k][:, ~k] - regression @ cov[k][:, ~k]).diag().mean().sqrt()

    moved = (x[:, ~k].mean(0) - expected).norm() / (mean[~k] - expected).norm()
    assert moved < 0.4  # measured: 0.20 to 0.30; without guidance 1
    assert x[:, ~k].std(0).mean() == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize("more", [{}, {"eta": 1.0}, {"denoiser_gradient": False}, {"finish": 20}, {"fresh_noise": 0.1}])
def test_a_row_does_not_depend_on_its_batch(more: dict[str, float]) -> None:
    prior, operator = correlated(), left_half()
    y = operator.forward(images(prior, 3))
    guidance = Guidance(**({"steps": 100, "gamma": 0.05, "omega": 0.1} | more))
    together = sample(prior, operator, y, seeded([4, 5, 6]), guidance)
    for row, seed in enumerate([4, 5, 6]):
        alone = sample(prior, operator, y[row : row + 1], seeded([seed]), guidance)
        assert (together[row] - alone[0]).abs().max() < 1e-5  # measured: 4e-7; with one norm a batch: 0.3


def test_noise_of_the_steps_is_drawn_for_each_row_from_its_own_generator() -> None:
    prior = correlated()
    first, second = (free(prior, seeds, Guidance(20, 0, 0, eta=1.0)) for seeds in ([1, 2], [1, 3]))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    assert not torch.equal(first, free(prior, [1, 2], Guidance(20, 0, 0)))


def test_equal_seeds_give_equal_bytes() -> None:
    prior, operator = correlated(), left_half()
    y = operator.forward(images(prior, 2))
    runs = [sample(prior, operator, y, seeded([1, 2]), Guidance(20, 0.05, 0.1, 0.5)) for _ in range(2)]
    assert torch.equal(*runs)
    assert runs[0].dtype == torch.float32


def test_where_nothing_is_left_to_pull_the_gradient_is_zero_and_not_nan() -> None:
    identity = torch.eye(3)
    prior = correlated(rotation=identity)
    nothing_kept = Inpaint(torch.zeros(1, 1, SIDE, SIDE))
    y = torch.zeros(2, 3, SIDE, SIDE)
    pulled = sample(prior, nothing_kept, y, seeded([1, 2]), Guidance(20, 1, 1))
    assert torch.equal(pulled, free(prior, [1, 2], Guidance(20, 0, 0)))


class Watched(GaussianPrior):
    """Counts what is asked of it, and whether a gradient was wanted."""

    def __init__(self, prior: GaussianPrior) -> None:
        super().__init__(prior.mean, prior.cov, prior.decoder, prior.encoder)
        self.asked = {"eps": 0, "decode": 0, "encode": 0, "gradients": 0}

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        self.asked["eps"] += 1
        self.asked["gradients"] += z.requires_grad
        return super().eps(z, t)

    def decode(self, z: Tensor) -> Tensor:
        self.asked["decode"] += 1
        return super().decode(z)

    def encode(self, x: Tensor) -> Tensor:
        self.asked["encode"] += 1
        return super().encode(x)


@pytest.mark.parametrize(
    ("gamma", "omega", "asked"),
    [
        (0.0, 0.0, {"eps": 5, "decode": 1, "encode": 0, "gradients": 0}),
        (0.0, 1.0, {"eps": 5, "decode": 6, "encode": 0, "gradients": 5}),
        (1.0, 0.0, {"eps": 5, "decode": 6, "encode": 5, "gradients": 5}),
    ],
)
def test_a_weight_of_zero_costs_nothing(gamma: float, omega: float, asked: dict[str, int]) -> None:
    prior = Watched(correlated())
    free(prior, [1], Guidance(5, gamma, omega))
    assert prior.asked == asked


def test_without_the_denoisers_gradient_the_denoiser_is_not_differentiated() -> None:
    prior = Watched(correlated())
    free(prior, [1], Guidance(5, 1.0, 1.0, denoiser_gradient=False))
    assert prior.asked == {"eps": 5, "decode": 6, "encode": 5, "gradients": 0}


def test_a_finish_asks_the_decoder_alone() -> None:
    prior = Watched(correlated())
    free(prior, [1], Guidance(5, 0.0, 0.0, finish=7))
    assert prior.asked == {"eps": 5, "decode": 8, "encode": 0, "gradients": 0}


def test_the_longer_the_finish_the_nearer_are_kept_pixels() -> None:
    prior, operator = correlated(), left_half()
    y = operator.forward(images(prior, 4))
    residuals = [
        (operator.forward(sample(prior, operator, y, seeded(range(4)), Guidance(20, 0.02, 0.05, finish=n))) - y)
        .flatten(1)
        .norm(dim=1)
        for n in (0, 5, 20, 80)
    ]
    assert all((later < earlier).all() for earlier, later in itertools.pairwise(residuals))
    assert (residuals[-1] < 0.1 * residuals[0]).all()


def test_the_fewer_pixels_are_kept_around_one_the_less_the_finish_moves_for_it() -> None:
    prior = correlated()
    keep = left_half().mask.clone()
    keep[..., -1, -1] = 1
    z = torch.zeros(1, 3, SIDE, SIDE)
    y = keep * (prior.decode(z) + 1)
    *_, moved = polish(prior, Inpaint(keep), y, z, 3)
    length = moved.norm(dim=1)[0]
    assert length[1, 2] == 0
    # Of the corner's four pixels one is kept; of those in the first column all are.
    assert length[-1, -1] == pytest.approx(length[1, 0].item() / 2, rel=0.05)


def test_during_the_finish_on_step_is_called_as_after_the_last_step_and_may_stop_it() -> None:
    class Stop(Exception):
        pass

    calls: list[tuple[int, int]] = []

    def note(done: int, steps: int) -> None:
        calls.append((done, steps))
        if len(calls) == 5:
            raise Stop

    prior = Watched(correlated())
    with pytest.raises(Stop):
        sample(prior, everything(), torch.zeros(1, 3, 4, 4), seeded([1]), Guidance(3, 0, 0, finish=9), on_step=note)
    assert calls == [(1, 3), (2, 3), (3, 3), (3, 3), (3, 3)]
    assert prior.asked["decode"] == 2


def test_a_finish_that_breaks_names_its_step_and_row() -> None:
    class Breaks(Watched):
        def decode(self, z: Tensor) -> Tensor:
            broken = torch.tensor([1.0, float("nan"), 1.0]).view(3, 1, 1, 1)
            return super().decode(z) * (broken if self.asked["decode"] >= 2 else 1.0)

    with pytest.raises(NumericalFault, match=r"after step 6 in rows \[1\]"):
        free(Breaks(correlated()), [1, 2, 3], Guidance(4, 0, 0, finish=5))


def test_on_step_is_called_after_each_step() -> None:
    calls: list[tuple[int, int]] = []
    sample(
        correlated(),
        everything(),
        torch.zeros(1, 3, SIDE, SIDE),
        seeded([1]),
        Guidance(4, 0, 1),
        on_step=lambda done, steps: calls.append((done, steps)),
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_exception_from_on_step_stops_the_walk() -> None:
    class Stop(Exception):
        pass

    def stop_at_three(done: int, steps: int) -> None:
        if done == 3:
            raise Stop

    prior = Watched(correlated())
    with pytest.raises(Stop):
        sample(
            prior, everything(), torch.zeros(1, 3, SIDE, SIDE), seeded([1]), Guidance(9, 0, 0), on_step=stop_at_three
        )
    assert prior.asked["eps"] == 3


class BreaksAt(GaussianPrior):
    """Predicts ``value`` for the second row from time step ``t`` down."""

    def __init__(self, prior: GaussianPrior, t: int, value: float) -> None:
        super().__init__(prior.mean, prior.cov, prior.decoder, prior.encoder)
        self.t, self.value = t, value

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        e = super().eps(z, t)
        return e.index_fill(0, torch.tensor([1]), self.value) if t[0] <= self.t else e


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("omega", [0.0, 1.0])
def test_values_that_are_not_finite_name_their_step_and_row(value: float, omega: float) -> None:
    prior = BreaksAt(correlated(), t=799, value=value)
    with pytest.raises(NumericalFault, match=r"after step 3 in rows \[1\]") as fault:
        free(prior, [1, 2, 3], Guidance(10, 0, omega))
    assert (fault.value.step, fault.value.rows) == (3, (1,))
    assert isinstance(fault.value, ArithmeticError)


def test_an_image_that_is_not_finite_is_a_fault_too() -> None:
    prior = correlated()
    prior.decoder = prior.decoder * float("inf")
    with pytest.raises(NumericalFault, match=r"rows \[0\]"):
        free(prior, [1], Guidance(2, 0, 0))


def test_each_measurement_needs_a_generator() -> None:
    with pytest.raises(ValueError, match="2 measurements need as many generators, not 1"):
        sample(correlated(), everything(), torch.zeros(2, 3, SIDE, SIDE), seeded([1]), UNGUIDED)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"gamma": -1.0}, "gamma and omega"),
        ({"omega": float("nan")}, "gamma and omega"),
        ({"eta": 1.5}, "eta"),
        ({"fresh_noise": -0.1}, "fresh_noise"),
        ({"enter": 0.0}, "enter"),
        ({"enter": 1.1}, "enter"),
        ({"finish": -1}, "finish"),
    ],
)
def test_guidance_refuses_numbers_out_of_range(numbers: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guidance(**({"steps": 10, "gamma": 1.0, "omega": 1.0} | numbers))


def test_a_measurement_has_noise_of_its_width_where_something_is_measured_and_only_there() -> None:
    x = torch.rand(2000, 3, SIDE, SIDE)
    operator = left_half()
    n = measure(operator, x, 0.3, seeded(range(2000))) - operator.forward(x)
    assert (n[..., SIDE // 2 :] == 0).all()
    assert n[..., : SIDE // 2].std() == pytest.approx(0.3, rel=0.02)
    assert torch.equal(measure(operator, x[:3], 0.0, []), operator.forward(x[:3]))


def test_the_reference_measures_noise_in_hidden_pixels_too() -> None:
    n = measure(ReferenceInpaint(left_half().mask), torch.zeros(2000, 3, SIDE, SIDE), 0.3, seeded(range(2000)))
    assert n[..., SIDE // 2 :].std() == pytest.approx(0.3, rel=0.02)


def test_noise_of_a_measurement_comes_from_the_generator_of_its_row() -> None:
    x = torch.rand(2, 3, SIDE, SIDE)
    together = measure(everything(), x, 0.3, seeded([1, 2]))
    assert torch.equal(together[1:], measure(everything(), x[1:], 0.3, seeded([2])))
    assert not torch.equal(together[:1], measure(everything(), x[:1], 0.3, seeded([2])))


def test_fresh_noise_is_drawn_anew_in_each_step_and_damps_the_pull() -> None:
    prior, operator = correlated(), left_half()
    y = operator.forward(images(prior, 4))
    shapes: list[tuple[int, ...]] = []

    def noted(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
        shapes.append(shape)
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators])

    residuals = [
        (operator.forward(sample(prior, operator, y, seeded(range(4)), guidance, draw=noted)) - y).norm()
        for guidance in (Guidance(50, 0, 0.1), Guidance(50, 0, 0.1, fresh_noise=1.0))
    ]
    assert len(shapes) == 1 + 1 + 50
    assert residuals[1] > 1.5 * residuals[0]


def test_with_the_authors_norm_neighbours_change_each_other() -> None:
    prior, operator = correlated(), left_half()
    y = operator.forward(images(prior, 2))
    guidance = Guidance(50, 0.05, 0.1, conventions=REFERENCE)
    together, alone = (sample(prior, operator, y[:n], seeded([4, 5][:n]), guidance) for n in (2, 1))
    assert (together[0] - alone[0]).abs().max() > 1e-3


def test_a_walk_entered_late_is_the_end_of_a_longer_one_and_stays_near_its_start() -> None:
    prior, guidance = correlated(), Guidance(5, 0, 0, enter=0.25)
    whole = Guidance(20, 0, 0).path(prior.alpha_bar)
    assert guidance.path(prior.alpha_bar) == whole[15:]
    start = images(prior, 2, seed=5)
    near, far = (
        (
            sample(prior, everything(), start, seeded([1, 2]), Guidance(20, 0, 0, enter=enter), start=start) - start
        ).norm()
        for enter in (0.1, 1.0)
    )
    assert near < 0.4 * far


def test_a_start_is_noised_to_the_level_where_the_walk_is_entered() -> None:
    prior, seen = correlated(), list[Tensor]()

    class Noted(GaussianPrior):
        def eps(self, z: Tensor, t: Tensor) -> Tensor:
            seen.append(z)
            return super().eps(z, t)

    start, guidance = images(prior, 1), Guidance(3, 0, 0, enter=0.3)
    noted = Noted(prior.mean, prior.cov, prior.decoder, prior.encoder)
    sample(noted, everything(), start, seeded([4]), guidance, start=start)
    ab = guidance.path(prior.alpha_bar)[0].ab
    n = torch.randn(seen[0].shape[1:], generator=torch.Generator().manual_seed(4))
    assert len(seen) == 3
    assert torch.allclose(seen[0][0], ab**0.5 * prior.encode(start)[0] + (1 - ab) ** 0.5 * n, atol=1e-6)
