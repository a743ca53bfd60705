"""What a worker counts."""

from shared.figures import BOUNDS, Figures, Meter


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def test_images_fall_into_every_bucket_that_holds_them() -> None:
    meter = Meter()
    for seconds in (0.05, 2.0, 2.0, 5000.0):
        meter.made(seconds)
    figures = Figures.model_validate(meter.read())
    assert (figures.made, figures.seconds) == (4, 5004.05)
    assert figures.within == {str(bound): 1 if bound < 2 else 3 for bound in BOUNDS} | {"+Inf": 4}


def test_the_pace_is_that_since_the_figures_before() -> None:
    clock = Clock()
    meter = Meter(clock)
    for at, images, pace in ((2.0, 4, 2.0), (4.0, 0, 0.0), (5.0, 3, 3.0)):
        clock.at = at
        meter.step(images)
        assert meter.read()["steps_a_second"] == pace
    assert meter.read((7, 9)) | {"within": {}} == {
        "made": 0,
        "failures": 0,
        "seconds": 0.0,
        "within": {},
        "steps": 7,
        "steps_a_second": 0.0,
        "memory_used": 7,
        "memory": 9,
        "lapses": {},
        "too_large": {},
        "largest": {},
    }


def test_figures_of_an_older_version_are_read() -> None:
    assert Figures.model_validate({}) == Figures()
