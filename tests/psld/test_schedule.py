import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.psld.schedule import reference_walk, walk

ALPHA_BAR = torch.linspace(0.999, 0.005, 1000)


@given(steps=st.integers(1, 1000))
def test_a_walk_falls_from_the_noisiest_step_to_no_noise_without_a_gap(steps: int) -> None:
    path = walk(ALPHA_BAR, steps)
    assert len(path) == steps
    assert path[0].t == 999
    assert path[-1].ab_next == 1
    assert all(step.ab == ALPHA_BAR[step.t].item() for step in path)
    assert all(here.ab_next == after.ab and here.t > after.t for here, after in itertools.pairwise(path))


@given(steps=st.integers(1, 1000))
def test_the_parts_of_a_walk_are_equal_up_to_rounding(steps: int) -> None:
    times = [step.t for step in walk(ALPHA_BAR, steps)] + [-1]
    lengths = [before - after for before, after in itertools.pairwise(times)]
    assert max(lengths) - min(lengths) <= 1


def test_a_walk_of_all_steps_visits_every_one() -> None:
    assert [step.t for step in walk(ALPHA_BAR, 1000)] == list(range(999, -1, -1))


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_a_walk_longer_than_the_training_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the prior's 1000"):
        walk(ALPHA_BAR, steps)


@pytest.mark.parametrize("steps", [1, 20, 50, 500])
def test_the_reference_walk_enters_each_part_at_its_second_time(steps: int) -> None:
    path = reference_walk(ALPHA_BAR, steps)
    assert [step.t for step in path] == list(range(1, 1001, 1000 // steps))[::-1]
    assert all(step.ab == ALPHA_BAR[step.t].item() for step in path)
    assert all(here.ab_next == after.ab for here, after in itertools.pairwise(path))
    assert path[-1].ab_next == ALPHA_BAR[0].item()


def test_the_reference_walk_of_all_steps_tells_one_time_too_many_and_ends_standing_still() -> None:
    path = reference_walk(ALPHA_BAR, 1000)
    assert [step.t for step in path] == list(range(1000, 0, -1))
    assert [step.ab for step in path] == ALPHA_BAR.flip(0).tolist()
    assert path[-1].ab == path[-1].ab_next


@pytest.mark.parametrize(("steps", "taken"), [(7, 8), (30, 31), (400, 500)])
def test_a_reference_walk_that_does_not_divide_the_training_takes_more_steps_as_theirs_does(
    steps: int, taken: int
) -> None:
    path = reference_walk(ALPHA_BAR, steps)
    assert [step.t for step in path] == list(range(1, 1001, 1000 // steps))[::-1]
    assert len(path) == taken
    assert all(step.ab == ALPHA_BAR[step.t].item() for step in path)


@pytest.mark.parametrize("steps", [3, 27, 300, 600, 999])
def test_a_reference_walk_that_reaches_a_time_without_a_level_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="reaches the time 1000, which has no level"):
        reference_walk(ALPHA_BAR, steps)


@pytest.mark.parametrize("steps", [0, -1, 1001, 2000])
def test_a_reference_walk_longer_than_the_training_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the prior's 1000"):
        reference_walk(ALPHA_BAR, steps)
