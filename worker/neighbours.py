"""How near a new image comes to the images of its dataset, seen from afar (`shared.likeness`).

A variant that is nearer to another image than to its source shows what the prior has learned by heart, or that the mask
left nothing of the source.
"""

import threading
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from sqlalchemy import select

from shared import likeness
from shared.db import Sessions
from shared.items import Work
from shared.models import Image

FRESH = 600.0
"""Seconds after which a dataset's images are read again: some may have been forgotten."""


@dataclass(frozen=True, slots=True)
class _Known:
    dataset_id: str
    read_at: float
    codes: NDArray[np.uint64]
    rows: likeness.Rows


@dataclass
class Neighbours:
    """Keeps the likenesses of the dataset that was asked about last: a kilobyte an image, read once."""

    _known: _Known | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def measure(self, sessions: Sessions, work: Work, original: Picture.Image, new: Picture.Image) -> dict[str, float]:
        """`source_distance`, and `nearest_distance` to another image of the dataset, if there is any whose likeness is
        known: a copy of the source is none."""
        seen = likeness.likeness(new)
        (own,) = likeness.distances(seen, likeness.rows([likeness.likeness(original)]))
        known = self._of(sessions, work.dataset_id)
        others = likeness.distances(seen, known.rows)[known.codes != _code(work.source_sha256)]
        nearest = {"nearest_distance": round(float(others.min()), 4)} if len(others) else {}
        return {"source_distance": round(float(own), 4), **nearest}

    def _of(self, sessions: Sessions, dataset_id: str) -> _Known:
        with self._lock:
            known = self._known
            if known is None or known.dataset_id != dataset_id or time.monotonic() > known.read_at + FRESH:
                self._known = known = _read(sessions, dataset_id)
            return known


def _read(sessions: Sessions, dataset_id: str) -> _Known:
    with sessions.read() as session:
        wanted = select(Image.sha256, Image.likeness).where(Image.dataset_id == dataset_id, Image.likeness.is_not(None))
        found = [(sha256, seen) for sha256, seen in session.execute(wanted) if seen]
    rows = likeness.rows([seen for _, seen in found])
    return _Known(dataset_id, time.monotonic(), np.array([_code(sha256) for sha256, _ in found], dtype=np.uint64), rows)


def _code(sha256: str) -> int:
    # As text, comparing them would take longer than comparing the pictures.
    return int(sha256[:16], 16)
