"""How many items are sampled at once, and when what is loaded is let go."""

import threading
from pathlib import Path

import pytest

from shared.spec import ExpansionSpec, ResolvedSpec, resolve
from worker.memory import Endless, Machine, left
from worker.studio import Batches, Rest

GB = 10**9


class Room(Endless):
    """A device of which so much is free."""

    def __init__(self, free: int) -> None:
        self._free = free

    def free(self) -> int:
        return self._free

    def total(self) -> int:
        return 24 * GB


def resolved(prior: str = "a", **sampler: object) -> ResolvedSpec:
    spec = ExpansionSpec.model_validate({"dataset_id": "d", "sampler": sampler})
    return resolve(spec, prior_sha256=prior, native_size=512, multiple=64, images_side=512)


def test_the_first_goes_alone_and_then_as_many_as_fit() -> None:
    batches = Batches(256, Room(12 * GB), reserve=GB)
    assert batches.limit(resolved(), None) == 1
    batches.took(resolved(), 1, 2 * GB)
    assert batches.limit(resolved(), None) == int(11 / (2 * Batches.SLACK)) == 4
    # Of what one takes there is more than an image: of four together each takes less.
    batches.took(resolved(), 4, 4 * GB)
    assert batches.limit(resolved(), None) == 9
    # The last of a job, alone again, says less than many did.
    batches.took(resolved(), 1, 2 * GB)
    assert batches.limit(resolved(), None) == 9


def test_each_kind_is_measured_by_itself() -> None:
    batches = Batches(256, Room(12 * GB))
    batches.took(resolved(), 1, 2 * GB)
    batches.halve(resolved("b"), 8)
    for other in (
        resolved("b"),
        resolved(preset="fast", enter=0.6),
        resolved(prompt="a hand"),
        resolved(denoiser_gradient=False),
    ):
        assert batches.limit(other, None) == 1
    assert batches.limit(resolved(steps=77, omega=1), None) == 5


def test_there_are_bounds_on_either_side() -> None:
    batches = Batches(256, Room(12 * GB))
    batches.took(resolved(), 1, 1000)
    assert batches.limit(resolved(), None) == Batches.BY_ITSELF
    batches.took(resolved(), 1, 13 * GB)
    assert batches.limit(resolved(), None) == 1
    batches = Batches(3, Room(12 * GB))
    batches.took(resolved(), 1, 1000)
    assert batches.limit(resolved(), None) == 3


def test_who_asks_for_a_number_gets_it_unless_that_proves_too_many() -> None:
    batches = Batches(100, Room(12 * GB))
    assert batches.limit(resolved(), 64) == 64
    assert batches.limit(resolved(), 128) == 100
    batches.halve(resolved(), 64)
    assert batches.limit(resolved(), 64) == 32
    batches.halve(resolved(), 1)
    assert batches.limit(resolved(), 64) == 1
    assert Batches(1).limit(resolved(), 64) == 1  # on a CPU


def test_a_memory_that_does_not_tell_is_tried() -> None:
    batches = Batches(8)
    batches.took(resolved(), 8, None)
    assert batches.limit(resolved(), None) == 8


@pytest.mark.parametrize(("said", "number"), [("auto", None), (None, None), (7, 7)])
def test_a_spec_says_how_many_it_wants_and_its_pixels_do_not_depend_on_it(said: object, number: int | None) -> None:
    spec = ExpansionSpec.model_validate({"dataset_id": "d", "sampler": {"batch": said}})
    assert spec.sampler.batch == number
    assert resolved(batch=said) == resolved()


@pytest.mark.parametrize("said", [0, 257, "many", 1.5])
def test_a_spec_cannot_want_any_number(said: object) -> None:
    with pytest.raises(ValueError, match=r"sampler\.batch"):
        resolved(batch=said)


def test_who_has_done_nothing_for_a_while_lets_go_once() -> None:
    now, cleared = [0.0], []
    rest = Rest(lambda: now[0])

    def clear_up() -> bool:
        return rest.clear_up(10, lambda: cleared.append(now[0]))

    assert not clear_up()  # nothing was ever loaded
    with rest.kept_off() as worked:
        worked()
        now[0] = 100
    assert not clear_up()  # it counts from the end of the work
    with rest.kept_off():
        now[0] = 105  # looked for work, and there was none
    now[0] = 109
    assert not clear_up()
    now[0] = 110
    assert not rest.clear_up(0, lambda: cleared.append(-1))  # never, it was said
    assert clear_up()
    now[0] = 1000
    assert not clear_up()
    assert cleared == [110]


def test_nothing_is_let_go_under_the_hands_of_who_works() -> None:
    now = [0.0]
    rest = Rest(lambda: now[0])
    with rest.kept_off() as worked:
        worked()
    now[0] = 100
    answers: list[bool] = []
    with rest.kept_off():
        other = threading.Thread(target=lambda: answers.append(rest.clear_up(10, list)))
        other.start()
        other.join()
    assert answers == [False]
    assert rest.clear_up(10, list)


def test_what_a_machine_has_is_read_from_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:  2000 kB\nMemFree: 10 kB\nMemAvailable:  1500 kB\n")
    machine = Machine(tmp_path)
    assert (machine.total(), machine.free(), machine.taken()) == (2000 * 1024, 1500 * 1024, None)
    container = tmp_path / "sys" / "fs" / "cgroup"
    container.mkdir(parents=True)
    (container / "memory.max").write_text("max\n")
    (container / "memory.current").write_text("900000\n")
    assert machine.free() == 1500 * 1024
    (container / "memory.max").write_text("1000000\n")
    (container / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert (machine.total(), machine.free()) == (1_000_000, 150_000)
    assert left(machine) == "; 150,000 of 1,000,000 bytes are free"
    assert left(Endless()) == ""
    (container / "memory.max").write_text("900\n")
    assert machine.free() == 0


def test_this_machine_has_some() -> None:
    machine = Machine()
    assert 10**8 < machine.free() <= machine.total()
