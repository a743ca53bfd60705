"""A lease is kept while steps end, and lapses when none does."""

import time

from worker.renewal import Pace, Renewal


def test_a_sampler_hangs_after_two_minutes_or_twenty_steps_without_one() -> None:
    at = [0.0]
    pace = Pace(120.0, now=lambda: at[0])
    at[0] = 119.0
    assert not pace.hangs()
    at[0] = 121.0
    assert pace.hangs()
    for step in range(3):
        at[0] += 30.0
        pace.note(step, 100)
    at[0] += 20 * 30.0 - 1
    assert not pace.hangs()
    at[0] += 2
    assert pace.hangs()


def test_a_renewal_that_is_refused_is_known_and_not_asked_again() -> None:
    asked = []
    with Renewal(lambda: asked.append(1) or False, 0.01) as renewal:
        end = time.monotonic() + 5
        while not renewal.lost and time.monotonic() < end:
            time.sleep(0.01)
    assert renewal.lost
    assert len(asked) == 1
