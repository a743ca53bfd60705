"""A claimed training becomes an installed prior, stretch by stretch."""

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from shared import images, items, logs, priors, stretches
from shared.models import Training
from shared.storage import prior_key, source_key, training_key
from shared.stretches import Noted, Picture, Work
from worker import device, training
from worker.blame import Stopped, blamed
from worker.renewal import Pace, Renewal
from worker.studio import Studio
from worker.training import TrainingProgress

log = logging.getLogger(__name__)

_BETWEEN_STEPS = 5
"""Between two steps pictures may be drawn and looked at: what would be a hanging sampler is none yet."""
_LATEST = 100


class MadeWay(Stopped):
    """The device is given back at a checkpoint, because items of jobs wait for it."""


class Meter:
    """How far a training is, and how fast."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.noted = Noted()
        self._now = now
        self._last = now()
        self._seconds: deque[float] = deque(maxlen=_LATEST)

    def note(self, progress: TrainingProgress) -> None:
        """A step has ended, or a part of one."""
        at = self._now()
        # The first of a process comes after the pictures were read, and what is made between two stages is no step.
        if self.noted.steps and progress.step > self.noted.step:
            self._seconds.append(at - self._last)
        self._last = at
        self.noted = Noted(
            stage=progress.stage,
            step=progress.step,
            steps=progress.steps,
            loss=progress.loss if math.isfinite(progress.loss) else None,
            step_seconds=sum(self._seconds) / len(self._seconds) if self._seconds else None,
        )


def train_next(studio: Studio, make_way: Callable[[], None]) -> bool:
    """Claim the oldest training and work on it until it is over or makes way; False if there was none to claim.

    `make_way` is called after it was handed back because items of jobs wait.
    """
    if studio.stop():
        return False
    with studio.sessions.read() as session:
        folders = studio.folders(session)
    with studio.sessions.write() as session:
        jobs_wait = items.waiting(session, folders.keys())
        lease = studio.settings.lease_seconds
        work = stretches.claim(session, studio.name, lease, hashes=folders.keys(), jobs_wait=jobs_wait)
    if work is None:
        return False
    try:
        with logs.about(**work.ids), studio.rest.kept_off():
            _hold(studio, work, folders)
    except MadeWay:
        with studio.sessions.write() as session:
            stretches.hand_back(session, work.claim, made_way=True)
        make_way()
    finally:
        # Whatever is still ours goes back, on SIGTERM (SystemExit) and after an error that is not its fault too.
        with studio.sessions.write() as session:
            stretches.hand_back(session, work.claim)
    return True


def _hold(studio: Studio, work: Work, folders: Mapping[str, Path]) -> None:
    """Train, the lease renewed meanwhile."""
    settings = studio.settings
    pace, meter = Pace(_BETWEEN_STEPS * settings.hang_seconds), Meter()

    def renew(*, checkpointed: bool = False) -> bool:
        if pace.sampling and pace.hangs():
            log.critical("no step has ended for %.0f s after step %d; this process ends", pace.waited(), pace.step)
            os._exit(1)
        with studio.sessions.write() as session:
            return stretches.renew(session, work.claim, meter.noted, settings.lease_seconds, checkpointed=checkpointed)

    with Renewal(renew, settings.renew_seconds) as renewal:

        def on_step(folder: Path, progress: TrainingProgress) -> None:
            pace.note(progress.step, progress.steps)
            meter.note(progress)
            if renewal.lost or studio.stop():
                raise Stopped
            if progress.checkpointed:
                studio.storage.keep(_work_key(work))
                _show(studio, work, folder)
                with _whatever_the_database_does():
                    if not renew(checkpointed=True):
                        raise Stopped
                    if progress.step < progress.steps and _jobs_wait(studio, folders):
                        raise MadeWay

        try:
            with _fate(studio, work), studio.storage.at_hand(_work_key(work)) as folder:
                _train(studio, work, folder, folders, partial(on_step, folder))
        except MadeWay:
            raise
        except Stopped:
            log.info("the training stopped at step %d", pace.step)
            _clear_up(studio, work)
        except torch.AcceleratorError:
            # As in `worker.expand`: nothing more can be done on the device in this process.
            log.critical("the device failed; this process ends", exc_info=True)
            os._exit(1)


def _train(
    studio: Studio,
    work: Work,
    folder: Path,
    folders: Mapping[str, Path],
    on_step: Callable[[TrainingProgress], None],
) -> None:
    target = studio.storage.folder(prior_key(work.claim.id))
    if not target.is_dir():
        init = folders[work.init_sha256] if work.init_sha256 else None
        loaders = [_loader(studio, work, picture) for picture in work.pictures]
        with _the_machine_to_itself(studio):
            training.train(
                loaders,
                work.settings,
                folder,
                init=init,
                device=studio.device,
                on_step=on_step,
                classes=[picture.classes for picture in work.pictures],
            )
            _show(studio, work, folder)
            training.install(folder, target, name=work.name, about=_about(work))
    studio.storage.keep(prior_key(work.claim.id))
    prior = priors.describe(work.name, target)
    prior.training_id = work.claim.id
    with studio.sessions.write() as session:
        done = stretches.finish(session, work, prior)
    if not done:
        raise Stopped
    log.info("the training is done")


def _about(work: Work) -> dict[str, Any]:
    """What the prior's card says of where it comes from."""
    return {
        "training": work.claim.id,
        "dataset": work.dataset,
        "licence": work.licence,
        "init": {"name": work.init, "sha256": work.init_sha256} if work.init else None,
        "regrow": version("regrow"),
        "sources": [picture.sha256 for picture in work.pictures],
    }


def _loader(studio: Studio, work: Work, picture: Picture) -> Callable[[], Image.Image]:
    def load() -> Image.Image:
        data = studio.storage.read(source_key(picture.sha256))
        image = images.open_image(data, picture.path, upright=picture.upright)
        return images.shown(image, work.white) if image.mode == "I;16" else image

    return load


def _show(studio: Studio, work: Work, folder: Path) -> None:
    """Put the newest samples and figures where the API finds them."""
    for name, newest in (("preview.png", training.samples(folder)), ("history.json", training.history(folder))):
        if newest is not None and newest.is_file():
            studio.storage.write(training_key(work.claim.id, name), newest.read_bytes())


def _jobs_wait(studio: Studio, folders: Mapping[str, Path]) -> bool:
    with studio.sessions.read() as session:
        return items.waiting(session, folders.keys())


def _clear_up(studio: Studio, work: Work) -> None:
    """Who lost a training that was deleted removes what he may have written since."""
    with studio.sessions.read() as session:
        deleted = session.get(Training, work.claim.id) is None
    if deleted:
        studio.storage.delete(training_key(work.claim.id))
        studio.storage.delete(prior_key(work.claim.id))


def _work_key(work: Work) -> str:
    return training_key(work.claim.id, "work/")


@contextmanager
def _whatever_the_database_does() -> Iterator[None]:
    """A database that is away costs a training nothing as long as its lease lasts."""
    try:
        yield
    except SQLAlchemyError as error:
        log.warning("the database is away at a checkpoint: %s", error)


@contextmanager
def _the_machine_to_itself(studio: Studio) -> Iterator[None]:
    """On a GPU no prior stays loaded meanwhile; on a CPU all cores are used, since no bytes depend on it."""
    if studio.device.type == "cpu":
        torch.set_num_threads(device.threads_for_training(studio.settings.threads))
    else:
        studio.priors.clear()
        studio.memory.reclaim()
    try:
        yield
    finally:
        torch.set_num_threads(studio.settings.threads)
        studio.memory.reclaim()


def _fate(studio: Studio, work: Work) -> AbstractContextManager[None]:
    """What the training itself raises ends in its row; what is not its doing passes through."""
    return blamed(
        "the training",
        partial(_fail, studio, work),
        storage=studio.storage,
        device=studio.device,
        too_much=lambda _: "A step does not fit the memory. Train with smaller batches.",
    )


def _fail(studio: Studio, work: Work, kind: str, detail: str, *, final: bool) -> None:
    log.warning("the training failed: %s", kind)
    with studio.sessions.write() as session:
        stretches.fail(session, work.claim, kind, detail, final=final)
