"""Pictures and labels for tests of masks."""

from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from shared.images import Placement, place
from shared.masks import MASKS, AnyMask, Area, Scene

OPTIONS: TypeAdapter[AnyMask] = TypeAdapter(AnyMask)

placements = st.builds(place, st.integers(1, 90), st.integers(1, 90), st.integers(4, 40), st.sampled_from([1, 8, 16]))
share = st.floats(0, 1)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
boxes = st.lists(st.tuples(share, share, share, share), min_size=1, max_size=3).map(
    lambda rows: np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in rows])
)
at_the_border = st.tuples(
    share, share, share, share, st.sampled_from(["left", "top", "right", "bottom", "corner"])
).map(lambda drawn: np.array([_reaching(min(drawn[:2]), min(drawn[2:4]), max(drawn[:2]), max(drawn[2:4]), drawn[4])]))
"""One box that ends where the picture does."""
polygons = st.lists(st.tuples(share, share), min_size=3, max_size=7).map(np.array)


def _reaching(x0: float, y0: float, x1: float, y1: float, end: str) -> tuple[float, float, float, float]:
    left, top = 0.0 if end == "left" else x0, 0.0 if end == "top" else y0
    return left, top, 1.0 if end in ("right", "corner") else x1, 1.0 if end in ("bottom", "corner") else y1


def scene(placement: Placement, rows: Any = (), outlines: tuple[np.ndarray | None, ...] = ()) -> Scene:
    return Scene(placement, np.array(rows, dtype=np.float64).reshape(-1, 4), outlines)


def bounded(placement: Placement, outline: np.ndarray) -> Scene:
    """A scene with one polygon in its bounding box."""
    return scene(placement, [[*outline.min(axis=0), *outline.max(axis=0)]], (outline,))


def draw(of: Scene, kind: str, seed: int = 0, **asked: Any) -> Area:
    """A mask as a job would have it: what is not asked for has its default."""
    options = OPTIONS.validate_python({"kind": kind, **asked}).model_dump(exclude={"kind"})
    return MASKS[kind](of, np.random.default_rng(seed), **options)
