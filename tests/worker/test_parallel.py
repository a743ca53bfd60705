"""What several threads do comes out in order, and they hold no more at once than they may."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from worker.parallel import Room, in_order


class Meeting:
    """Counts who is in a block at the same time."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1


def slower_at_first(number: int) -> int:
    threading.Event().wait(0.02 if number % 3 == 0 else 0)
    return number * number


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_results_come_in_the_order_of_the_things(threads: int) -> None:
    assert list(in_order(slower_at_first, range(40), threads)) == [n * n for n in range(40)]
    assert list(in_order(slower_at_first, [], threads)) == []


def test_things_are_taken_only_as_fast_as_results_are_wanted() -> None:
    asked = []

    def things() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    with closing(in_order(str, things(), 3)) as results:
        assert [next(results) for _ in range(10)] == [str(n) for n in range(10)]
        assert len(asked) < 30


def test_what_is_raised_comes_in_its_turn_and_ends_all() -> None:
    done = []

    def work(number: int) -> int:
        if number == 20:
            raise OSError("the disk is full")
        done.append(number)
        return number

    got = []
    with pytest.raises(OSError, match="disk is full"):  # noqa: PT012
        for result in in_order(work, range(1000), 4):
            got.append(result)
    assert got == list(range(20))
    assert len(done) < 60
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("parallel")]


@pytest.mark.parametrize(("size", "expected"), [(40, 2), (50, 2), (100, 1), (7, 14)])
def test_no_more_is_held_than_there_is_room_and_what_is_too_large_is_alone(size: int, expected: int) -> None:
    room, meeting = Room(100), Meeting()

    def work(_: int) -> None:
        with room.taken(size if size != 100 else 1000), meeting:
            threading.Event().wait(0.005)

    list(in_order(work, range(60), 16))
    assert 1 <= meeting.most <= expected
    with room.taken(100):
        pass


def test_what_was_not_begun_is_not_done_when_nobody_wants_it() -> None:
    done, begun, unwanted = [], threading.Event(), threading.Event()

    def work(number: int) -> int:
        if number == 1:
            begun.set()
            unwanted.wait()
            threading.Event().wait(0.3)
        done.append(number)
        return number

    results = in_order(work, range(100), 1)
    assert next(results) == 0
    begun.wait()
    unwanted.set()
    results.close()
    assert done == [0, 1]
