"""What becomes of an item: its image is stored and noted, or its row says why there is none."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from shared import images, items, logs
from shared.items import Result, Work
from shared.storage import result_key, sha256
from worker.blame import Refused, asked_for, blamed
from worker.memory import left
from worker.psld.sampler import NumericalFault
from worker.sketch import Sketch, finished, of_the_canvas, of_the_file
from worker.studio import Studio

log = logging.getLogger(__name__)

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp"}


@contextmanager
def fate(studio: Studio, work: Work) -> Iterator[None]:
    """Whatever the item itself raises ends in its row and goes no further; what is not its doing passes through.

    What is logged meanwhile carries the item's ids.
    """
    fail, too_much = partial(_fail, studio, work), partial(_too_much, studio, work)
    own = blamed("an item", fail, storage=studio.storage, device=studio.device, too_much=too_much)
    with logs.about(item=work.item_id, **work.ids), own:
        try:
            yield
        except NumericalFault as fault:
            used = work.resolved
            detail = f"{fault} (preset {used.preset}, gamma {used.gamma}, omega {used.omega})"
            raise Refused("numerical_fault", detail) from fault


def _too_much(studio: Studio, work: Work, error: Exception) -> str:
    """What one image would have needed, and what there was."""
    resolved = work.resolved
    studio.meter.too_large(resolved.prior_sha256, resolved.long_side)
    taken, more = studio.memory.taken(), asked_for(error)
    needed = f"{(taken or 0) + (more or 0):,} bytes or more" if taken or more else "more"
    return (
        f"One image of {resolved.long_side} px with the prior {resolved.prior} does not fit the memory of "
        f"{studio.device}: it takes {needed}{left(studio.memory)}. Choose a smaller canvas.long_side."
    )


def settle(studio: Studio, sketches: Sequence[Sketch], xs: Iterable[np.ndarray[Any, Any]], seconds: float) -> None:
    """Make, store and note the images of what was sampled together, `xs` (3, H, W) each in `seconds`.

    Raises what is no item's fault, such as OSError of a storage that is away; see `fate`.
    """
    for sketch, x in zip(sketches, xs, strict=True):
        with fate(studio, sketch.work):
            _settle(studio, sketch, x, seconds, len(sketches))


def _settle(
    studio: Studio, sketch: Sketch, x: np.ndarray[Any, np.dtype[np.float32]], seconds: float, batch: int
) -> None:
    work, resolved = sketch.work, sketch.work.resolved
    data, image_format = finished(sketch, x)
    key = result_key(work.job_id, work.item_id, work.token, EXTENSIONS[image_format])
    studio.storage.write(key, data)
    new = images.open_image(data, work.path)
    measures = of_the_canvas(sketch, x) | of_the_file(sketch, new)
    measures |= studio.neighbours.measure(studio.sessions, work, sketch.original, new)
    made_by = {**studio.made_by, "prior_sha256": resolved.prior_sha256, "batch": batch}
    result = Result(key, sha256(data), round(seconds, 3), measures, made_by)
    with studio.sessions.write() as session:
        settled = items.settle(session, work, result)
    if settled:
        studio.meter.made(seconds)
        log.info("an image is made, in %.3f s", seconds)
    else:
        # Another worker has the item now: its image stays, this one goes.
        studio.storage.delete(key)


def _fail(studio: Studio, work: Work, kind: str, detail: str, *, final: bool) -> None:
    # The row has the words, which may quote what its owner has named.
    log.warning("an item failed: %s", kind)
    studio.meter.failed()
    with studio.sessions.write() as session:
        items.fail(session, work, kind, detail, final=final)
