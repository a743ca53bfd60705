"""What a resolved spec says reaches the sampler."""

import numpy as np
import pytest
import torch

from shared.operators import Measured
from shared.spec import PRESETS, ExpansionSpec, ResolvedSpec, resolve
from worker import recipe
from worker.priors.diffusers import BUILTIN, DiffusersPrior, load
from worker.psld.jpeg import Jpeg
from worker.psld.operators import Inpaint, MotionBlur, Operator, ReferenceInpaint, downsample, gaussian_blur
from worker.psld.sampler import REFERENCE, Guidance, sample
from worker.psld.smear import smear

SIDE = 32
RAMP = np.linspace(-1, 1, SIDE, dtype=np.float32) * np.ones((1, 3, SIDE, 1), dtype=np.float32)
KEEP = np.arange(SIDE)[None, None] < np.full((1, SIDE, 1), SIDE // 2)


@pytest.fixture(scope="module")
def prior() -> DiffusersPrior:
    torch.set_num_threads(1)
    return load(BUILTIN)


def resolved(**spec: object) -> ResolvedSpec:
    wanted = ExpansionSpec.model_validate({"dataset_id": "x", "canvas": {"long_side": SIDE}, **spec})
    return resolve(wanted, prior_sha256="", native_size=128, multiple=16, images_side=128)


def regrow(prior: DiffusersPrior, spec: ResolvedSpec, seeds: tuple[int, ...] = (3,)) -> np.ndarray:
    n = len(seeds)
    pictures, keep = RAMP.repeat(n, 0), KEEP.repeat(n, 0)
    return recipe.regrow(prior, spec, pictures, keep, seeds, lambda _done, _steps: None, inside=None)


def test_the_preset_reference_is_the_authors_sampler_with_noise_from_the_items_own_generator(
    prior: DiffusersPrior,
) -> None:
    spec = resolved(sampler={"preset": "reference", "steps": 4})
    generator = torch.Generator().manual_seed(3)
    operator = ReferenceInpaint(torch.from_numpy(KEEP)[:, None])
    x = torch.from_numpy(RAMP)
    y = operator.forward(x) + 0.05 * torch.randn(1, 3, SIDE, SIDE, generator=generator)
    guidance = Guidance(4, 0.2, 1.0, fresh_noise=0.05, conventions=REFERENCE)
    by_hand = sample(prior, operator, y, [generator], guidance)
    assert np.array_equal(regrow(prior, spec), by_hand.numpy())


def test_the_other_presets_measure_without_noise_unless_asked(prior: DiffusersPrior) -> None:
    spec = resolved(sampler={"preset": "exact", "steps": 4})
    operator = Inpaint(torch.from_numpy(KEEP)[:, None])
    y = operator.forward(torch.from_numpy(RAMP))
    by_hand = sample(prior, operator, y, [torch.Generator().manual_seed(3)], Guidance(4, 0.2, 1.0))
    assert np.array_equal(regrow(prior, spec), by_hand.numpy())
    noisy = resolved(sampler={"preset": "exact", "steps": 4}, operator={"noise": 0.2})
    assert not np.array_equal(regrow(prior, noisy), by_hand.numpy())


@pytest.mark.parametrize("change", [{"denoiser_gradient": False}, {"finish": 2}, {"eta": 0.5}, {"gamma": 0.1}])
def test_what_is_asked_of_the_sampler_beside_the_preset_reaches_it(
    prior: DiffusersPrior, change: dict[str, float]
) -> None:
    spec = resolved(sampler={"preset": "exact", "steps": 3, **change})
    operator = Inpaint(torch.from_numpy(KEEP)[:, None])
    y = operator.forward(torch.from_numpy(RAMP))
    numbers = {"steps": 3, "gamma": 0.2, "omega": 1.0}
    by_hand, plain = (
        sample(prior, operator, y, [torch.Generator().manual_seed(3)], Guidance(**(numbers | more)))
        for more in (change, {})
    )
    assert np.array_equal(regrow(prior, spec), by_hand.numpy())
    assert not torch.equal(by_hand, plain)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_row_does_not_depend_on_its_batch(prior: DiffusersPrior, noise: float) -> None:
    spec = resolved(sampler={"steps": 4}, operator={"noise": noise})
    together = regrow(prior, spec, (1, 2))
    for row, seed in enumerate((1, 2)):
        assert np.abs(together[row] - regrow(prior, spec, (seed,))[0]).max() < 1e-4


def test_a_walk_entered_late_begins_with_what_is_kept_smeared(prior: DiffusersPrior) -> None:
    spec = resolved(sampler={"preset": "exact", "steps": 3, "enter": 0.4})
    operator = Inpaint(torch.from_numpy(KEEP)[:, None])
    y = operator.forward(torch.from_numpy(RAMP))
    late = Guidance(3, 0.2, 1.0, enter=0.4)
    by_hand = sample(prior, operator, y, [torch.Generator().manual_seed(3)], late, start=smear(operator, y))
    assert np.array_equal(regrow(prior, spec), by_hand.numpy())


UNMASKED: dict[str, tuple[dict[str, float], Operator]] = {
    "gaussian_blur": ({"sigma": 3}, gaussian_blur(SIDE, 48, 3.0)),
    "motion_blur": ({"length": 7, "angle": 30}, MotionBlur(7, 30.0)),
    "downsample": ({"factor": 8}, downsample(SIDE, 48, 8)),
    "jpeg": ({"quality": 30}, Jpeg(30)),
}


def test_every_operator_that_can_be_asked_for_is_here() -> None:
    kinds = {kind.model_fields["kind"].default for kind in Measured.__subclasses__()}
    assert kinds == {"inpaint", *UNMASKED}


@pytest.mark.parametrize("kind", UNMASKED)
def test_the_operator_asked_for_is_the_one_applied(kind: str) -> None:
    numbers, expected = UNMASKED[kind]
    spec = resolved(operator={"kind": kind, **numbers})
    x = torch.rand(1, 3, SIDE, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    seen = recipe.measured(spec, x[0].numpy())
    np.testing.assert_array_equal(seen, expected.forward(x)[0].numpy())


@pytest.mark.parametrize("kind", UNMASKED)
def test_every_operator_measures_with_noise_where_it_is_asked_for(prior: DiffusersPrior, kind: str) -> None:
    numbers, _ = UNMASKED[kind]
    sampler = {"preset": "exact", "steps": 2}
    square = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    A = recipe.operator(resolved(operator={"kind": kind, **numbers}), square, None)
    for noise in (0.0, 0.3):
        spec = resolved(operator={"kind": kind, "noise": noise, **numbers}, sampler=sampler)
        generator = torch.Generator().manual_seed(3)
        y = A.forward(square)
        if noise:
            y = y + noise * torch.randn(y.shape, generator=generator)
        by_hand = sample(prior, A, y, [generator], Guidance(2, 0.2, 1.0))
        made = recipe.regrow(prior, spec, square.numpy(), None, [3], lambda _done, _steps: None, inside=None)
        np.testing.assert_allclose(made, by_hand.numpy(), atol=1e-5)


def test_to_inpaint_without_masks_is_refused(prior: DiffusersPrior) -> None:
    with pytest.raises(ValueError, match="masks are needed"):
        recipe.regrow(prior, resolved(), RAMP, None, [3], lambda _done, _steps: None, inside=None)


def test_a_canvas_larger_than_the_prior_is_walked_in_tiles_and_one_of_an_older_job_at_once(
    prior: DiffusersPrior,
) -> None:
    side, steps = 144, list[tuple[int, int]]()
    spec = resolved(canvas={"long_side": side}, sampler={"steps": 10, "finish": 1, "enter": 0.8})
    picture = np.linspace(-1, 1, side, dtype=np.float32) * np.ones((1, 3, side, 1), dtype=np.float32)
    keep = np.random.default_rng(0).random((1, side, side)) < 0.3
    before = spec.model_copy(update={"native_size": 0, "steps": 1})
    new = recipe.regrow(prior, spec, picture, keep, [3], lambda *done: steps.append(done), inside=None)
    # Ten steps and one of the finish, then two and one, counted as if they were ten in all.
    assert steps == [(done, 10) for done in (1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 9, 10, 10, 10)]
    assert np.abs(new - picture).mean() < 0.15  # measured: 0.05; of a grey canvas: 0.5
    steps.clear()
    recipe.regrow(prior, before, picture, keep, [3], lambda *done: steps.append(done), inside=None)
    assert steps == [(1, 1), (1, 1)]


def padded(side: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grey picture of that width in the middle of a black square, a mask, and where the picture lies."""
    inside = np.zeros((1, side, side), dtype=bool)
    inside[..., (side - width) // 2 : (side + width) // 2] = True
    picture = np.where(inside, 0.2, -1).astype(np.float32)[:, None].repeat(3, axis=1)
    keep = (np.random.default_rng(0).random((1, side, side)) < 0.2) | ~inside
    return picture, keep, inside


def reach(inside: np.ndarray, pixels: int) -> np.ndarray:
    """The padding that far from the picture, and nearer."""
    wide = inside.copy()
    for by in range(1, pixels + 1):
        wide |= np.roll(inside, by, axis=-1) | np.roll(inside, -by, axis=-1)
    return wide & ~inside


@pytest.mark.parametrize(
    ("side", "near", "far", "noise"), [(64, 4, 6, 0.0), (64, 4, 6, 0.1), (144, 5, 8, 0.0)], ids=["", "noise", "large"]
)
def test_the_padding_beside_the_picture_is_told_to_nobody_and_the_rest_of_it_is(
    prior: DiffusersPrior, side: int, near: int, far: int, noise: float
) -> None:
    sampler = {"steps": 2, "finish": 1}
    spec = resolved(canvas={"long_side": side}, sampler=sampler, operator={"noise": noise})
    picture, keep, inside = padded(side, side // 2)

    def made(spec: ResolvedSpec, picture: np.ndarray) -> np.ndarray:
        return recipe.regrow(prior, spec, picture, keep, [3], lambda _done, _steps: None, inside=inside)

    def white(area: np.ndarray) -> np.ndarray:
        return np.where(area[:, None], np.float32(1), picture)

    plain = made(spec, picture)
    beside, beyond = reach(inside, 4), reach(inside, far) & ~reach(inside, near)
    assert np.array_equal(made(spec, white(beside)), plain)
    assert np.abs(made(spec, white(beyond)) - plain).max() > 1e-3


def test_a_picture_does_not_end_in_a_dark_rim(prior: DiffusersPrior) -> None:
    spec = resolved(canvas={"long_side": 128}, sampler={"preset": "fast", "steps": 10, "finish": 10})
    picture, keep, inside = padded(128, 96)
    rim = inside & ~keep & reach(~inside, 3)
    errors = [
        float(
            (recipe.regrow(prior, spec, picture, keep, [3], lambda _d, _s: None, inside=told) - picture)[
                :, :, rim[0]
            ].mean()
        )
        for told in (inside, None)
    ]
    # Measured: -4 and -13 grey levels.
    assert abs(errors[0]) < max(0.6 * abs(errors[1]), 2 / 127.5), errors


@pytest.mark.parametrize("preset", PRESETS)
def test_only_the_authors_way_is_told_all_of_the_padding(prior: DiffusersPrior, preset: str) -> None:
    spec = resolved(canvas={"long_side": 64}, sampler={"preset": preset, "steps": 2})
    picture, keep, inside = padded(64, 32)
    plain, other = (
        recipe.regrow(prior, spec, each, keep, [3], lambda _done, _steps: None, inside=inside)
        for each in (picture, np.where(reach(inside, 4)[:, None], np.float32(1), picture))
    )
    assert np.array_equal(plain, other) == (preset != "reference")
